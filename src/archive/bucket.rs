//! Buckets of the providers: clients from the environment, and how they try again.

use super::location::{Location, LocationError, Provider};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn settings(location: &Location, error: &object_store::Error) -> LocationError {
    LocationError::Settings {
        location: location.to_string(),
        what: error.to_string(),
    }
}

pub(super) fn bucket(location: &Location) -> Result<Arc<dyn ObjectStore>, LocationError> {
    let Location::Bucket {
        provider,
        bucket,
        endpoint,
        region,
        ..
    } = location
    else {
        unreachable!("the caller has seen that it is a bucket")
    };
    // The process has one library of cryptography; a second call finds the first's and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Whoever writes http:// means it.
    let plain = endpoint.as_ref().is_some_and(|e| e.starts_with("http://"));
    let client = ClientOptions::new()
        // Not for a whole request: a large snapshot may come for hours.
        .with_timeout_disabled()
        .with_read_timeout(Duration::from_secs(60))
        .with_connect_timeout(Duration::from_secs(5));
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 5,
        retry_timeout: Duration::from_secs(30),
    };
    let failed = |error: object_store::Error| settings(location, &error);
    Ok(match provider {
        Provider::S3 => {
            let mut builder = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_retry(retry);
            builder = match allows_http("AWS_ALLOW_HTTP") || plain {
                true => builder.with_client_options(client.with_allow_http(true)),
                false => builder.with_client_options(client),
            };
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if let Some(region) = region {
                builder = builder.with_config(AmazonS3ConfigKey::Region, region);
            }
            Arc::new(builder.build().map_err(failed)?)
        }
        Provider::Google => {
            let builder = GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_client_options(client.with_allow_http(plain))
                .with_retry(retry);
            let builder = match endpoint {
                Some(endpoint) => builder.with_base_url(endpoint),
                None => builder,
            };
            Arc::new(builder.build().map_err(failed)?)
        }
        Provider::Azure => {
            let mut builder = MicrosoftAzureBuilder::from_env()
                .with_container_name(bucket)
                .with_retry(retry);
            builder = match allows_http("AZURE_ALLOW_HTTP") || plain {
                true => builder.with_client_options(client.with_allow_http(true)),
                false => builder.with_client_options(client),
            };
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            Arc::new(builder.build().map_err(failed)?)
        }
    })
}

fn allows_http(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "true" || value == "1")
}
