//! The paths of the second port. Everything is a GET; probes need no token.

use super::access;
use super::collect;
use super::events;
use super::host;
use super::options::HttpOptions;
use super::page::Page;
use super::probes::{self, Verdict};
use super::process::Began;
use super::sampler::Sampler;
use super::seat::Seat;
use super::told::{METRICS, Viewer};
use crate::config::Readiness;
use crate::model::ProcessMeters;
use crate::security::{Caller, Denied, Peer, ServerSecurity};
use crate::server::Registry;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use prometheus_client::encoding::prometheus_text;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Pages that are open at one time.
const PAGES: usize = 128;

/// Who sent a request.
#[derive(Clone, Debug)]
pub struct Client {
    /// From where.
    pub address: SocketAddr,
    /// The certificate that it showed.
    pub peer: Option<Peer>,
    /// The connection's place.
    pub seat: Seat,
}

/// What all requests share.
pub struct App {
    registry: Registry,
    readiness: watch::Receiver<Readiness>,
    meters: Arc<ProcessMeters>,
    draining: CancellationToken,
    security: ServerSecurity,
    sampler: Arc<Sampler>,
    began: Began,
    closing: CancellationToken,
    page: Page,
    pages: Arc<Semaphore>,
    /// The name that the port was told to listen on; empty if it is none.
    host: String,
}

impl App {
    /// `closing` ends the pages that are open.
    pub fn new(
        registry: Registry,
        options: &HttpOptions,
        sampler: Arc<Sampler>,
        began: Began,
        closing: CancellationToken,
    ) -> App {
        App {
            registry,
            readiness: options.readiness.clone(),
            meters: options.meters.clone(),
            draining: options.draining.clone(),
            security: options.security.clone(),
            sampler,
            began,
            closing,
            page: Page::new(),
            pages: Arc::new(Semaphore::new(PAGES)),
            host: host::name_of(&options.listen).to_owned(),
        }
    }
}

/// All paths.
pub fn router(app: Arc<App>) -> Router {
    let told = middleware::from_fn_with_state(app.clone(), admit);
    Router::new()
        .route("/", get(page))
        .route("/events", get(events))
        .route("/history", get(history))
        .route("/metrics", get(metrics))
        // Only what is above this line asks who calls: a probe has no token.
        .route_layer(told)
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(nothing)
        .layer(middleware::from_fn_with_state(app.clone(), right_host))
        .layer(middleware::from_fn(harden))
        .with_state(app)
}

/// Headers that every answer has.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
    response
}

/// Refuses names that are not this host's while anybody on it may look: a page of the internet whose name was made to lead
/// here ("DNS rebinding") could read it through a browser. With access configured it could not.
async fn right_host(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    let of = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let hosts = request.headers().get_all(header::HOST);
    let foreign = hosts
        .iter()
        .map(of)
        .find(|host| !host::is_local(host, &app.host));
    match foreign {
        Some(host)
            if client.address.ip().to_canonical().is_loopback()
                && app.security.access().is_open() =>
        {
            let shown: String = host.chars().take(100).collect();
            let why = format!(
                "everyone on this host may look, so this port answers to 'localhost' and to IP addresses, and not to {shown:?}; \
                 let a proxy send 'Host: localhost', or configure access\n"
            );
            text(StatusCode::MISDIRECTED_REQUEST, why)
        }
        _ => next.run(request).await,
    }
}

impl App {
    /// Who sent this request, if it may see metrics.
    fn caller(&self, headers: &HeaderMap, client: &Client) -> Result<Caller, Denied> {
        let values = access::authorization(headers);
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let (address, peer) = (client.address.ip(), client.peer.as_ref());
        self.security
            .access()
            .admit(&values, peer, Some(address), METRICS)
    }

    /// Whether a probe's answer may name this database: probes need no token, and tell a stranger no names.
    fn may_name(&self, headers: &HeaderMap, client: &Client) -> impl Fn(&str) -> bool + use<> {
        let caller = self.caller(headers, client).ok();
        move |name: &str| {
            let caller = caller.as_ref();
            caller.is_some_and(|caller| caller.may_use(METRICS, name))
        }
    }
}

/// Lets in who may see metrics.
async fn admit(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    mut request: Request,
    next: Next,
) -> Response {
    match app.caller(request.headers(), &client) {
        Ok(caller) => {
            client.seat.is_known();
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(Denied::NotPermitted(why)) => text(StatusCode::FORBIDDEN, why + "\n"),
        Err(Denied::Unauthenticated(why)) => {
            let mut response = text(StatusCode::UNAUTHORIZED, why + "\n");
            // The first is for browsers: they ask for a name (any) and a password (the token).
            for way in [
                "Basic realm=\"walcast\", charset=\"UTF-8\"",
                "Bearer realm=\"walcast\"",
            ] {
                let headers = response.headers_mut();
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(way));
            }
            response
        }
    }
}

fn text(status: StatusCode, text: String) -> Response {
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, plain, text).into_response()
}

async fn nothing() -> Response {
    let known = "not found; there are / (status page), /metrics, /livez and /readyz\n";
    text(StatusCode::NOT_FOUND, known.to_owned())
}

fn answer(verdict: Verdict) -> Response {
    let status = match verdict.good {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    text(status, verdict.text)
}

async fn livez(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let may_name = app.may_name(&headers, &client);
    answer(probes::livez(&app.registry, may_name))
}

async fn readyz(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Response {
    let readiness = app.readiness.borrow().clone();
    let draining = app.draining.is_cancelled();
    let may_name = app.may_name(&headers, &client);
    answer(probes::readyz(
        &app.registry,
        &readiness,
        draining,
        may_name,
    ))
}

async fn metrics(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Response {
    // The size of each log is asked of the file system.
    let scraped = tokio::task::spawn_blocking(move || {
        let may_see = |name: &str| caller.may_use(METRICS, name);
        collect::scrape(&app.registry, may_see, &app.meters, app.began)
    });
    match scraped.await {
        Ok(body) => (
            [(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)],
            body,
        )
            .into_response(),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn page(State(app): State<Arc<App>>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, app.page.policy.clone()),
    ];
    (headers, app.page.html.clone()).into_response()
}

async fn events(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Response {
    let viewer = Viewer(caller);
    if !app
        .registry
        .list()
        .iter()
        .all(|s| viewer.may_see(s.database().name()))
    {
        let why = "the status page shows every database, and this client may see only some; /metrics shows those\n";
        return text(StatusCode::FORBIDDEN, why.to_owned());
    }
    let Ok(place) = app.pages.clone().try_acquire_owned() else {
        let full = "as many status pages are open as this server serves at one time; close one\n";
        return text(StatusCode::SERVICE_UNAVAILABLE, full.to_owned());
    };
    let end = app.closing.clone();
    events::stream(app.sampler.clone(), viewer, place, end).into_response()
}

/// Which database's history is wanted.
#[derive(serde::Deserialize)]
struct Wanted {
    database: String,
}

async fn history(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let known = app.sampler.history_of(&wanted.database);
    match known.filter(|_| caller.may_use(METRICS, &wanted.database)) {
        Some(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        None => text(StatusCode::NOT_FOUND, "no such database here\n".to_owned()),
    }
}
