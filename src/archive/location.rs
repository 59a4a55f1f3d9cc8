//! Where an archive is, as a person writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use url::Url;

/// A directory, or a place in a bucket. Credentials are not part of it: they come from the environment, as each provider
/// documents it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A directory: `PATH` or `file://PATH`.
    Directory(PathBuf),
    /// A bucket.
    Bucket {
        /// Whose.
        provider: Provider,
        /// The bucket, or Azure's container.
        bucket: String,
        /// Where in it; empty: at its top.
        prefix: String,
        /// Another server that speaks the provider's protocol, `http://HOST:PORT` or `https://HOST:PORT`.
        endpoint: Option<String>,
        /// S3's region.
        region: Option<String>,
    },
}

/// Who keeps the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Amazon S3 and what is compatible: `s3://`.
    S3,
    /// Google Cloud Storage: `gs://`.
    Google,
    /// Azure Blob Storage: `az://`.
    Azure,
}

impl Provider {
    fn scheme(self) -> &'static str {
        match self {
            Provider::S3 => "s3",
            Provider::Google => "gs",
            Provider::Azure => "az",
        }
    }
}

/// A text that is no location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Not a URL.
    #[error("'{text}' is neither a path nor a URL: {what}")]
    Url {
        /// The text.
        text: String,
        /// What is wrong.
        what: String,
    },
    /// An unknown kind of URL.
    #[error(
        "'{scheme}://' is no archive; it is a PATH, file://PATH, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
    )]
    Scheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// A parameter that is not known.
    #[error("the archive's URL has an unknown parameter '{name}'; it may have endpoint and region")]
    Parameter {
        /// Its name.
        name: String,
    },
    /// Something in the URL has no place there.
    #[error("'{text}': {what}")]
    Unusable {
        /// The URL, without what could be secret.
        text: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The environment's settings for the provider do not do.
    #[error("{location} cannot be used with the settings in the environment: {what}")]
    Settings {
        /// The archive.
        location: String,
        /// What the library said.
        what: String,
    },
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Location, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Url {
                text: String::new(),
                what: "it is empty".to_owned(),
            });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Location::Directory(PathBuf::from(text)));
        };
        let provider = match scheme {
            "file" if rest.starts_with('/') => {
                return Ok(Location::Directory(PathBuf::from(rest)));
            }
            "file" => {
                return Err(LocationError::Unusable {
                    text: text.to_owned(),
                    what: "write file:// and an absolute path, as in file:///backup/app".to_owned(),
                });
            }
            "s3" => Provider::S3,
            "gs" => Provider::Google,
            "az" => Provider::Azure,
            other => {
                return Err(LocationError::Scheme {
                    scheme: other.to_owned(),
                });
            }
        };
        bucket(provider, text)
    }
}

impl Location {
    /// The place below this one for a database of that name.
    pub fn join(&self, name: &str) -> Location {
        match self {
            Location::Directory(path) => Location::Directory(path.join(name)),
            Location::Bucket {
                provider,
                bucket,
                prefix,
                endpoint,
                region,
            } => {
                // As in a URL, so that it is written and read again the same.
                let parts: Vec<String> = name.split('/').map(escaped).collect();
                let name = parts.join("/");
                Location::Bucket {
                    provider: *provider,
                    bucket: bucket.clone(),
                    prefix: match prefix.as_str() {
                        "" => name,
                        prefix => format!("{prefix}/{name}"),
                    },
                    endpoint: endpoint.clone(),
                    region: region.clone(),
                }
            }
        }
    }
}

fn escaped(part: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).into(),
        b => format!("%{b:02X}"),
    };
    part.bytes().map(byte).collect()
}

fn bucket(provider: Provider, text: &str) -> Result<Location, LocationError> {
    let url = Url::parse(text).map_err(|error| LocationError::Url {
        text: text.to_owned(),
        what: error.to_string(),
    })?;
    let unusable = |what: &str| LocationError::Unusable {
        text: format!("{}://{}", provider.scheme(), url.host_str().unwrap_or("")),
        what: what.to_owned(),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(unusable(
            "credentials do not belong into the URL; set them in the environment",
        ));
    }
    if url.port().is_some() || url.fragment().is_some() {
        return Err(unusable(
            "another server is named by ?endpoint=http://HOST:PORT behind the prefix",
        ));
    }
    let Some(bucket) = url.host_str().filter(|host| !host.is_empty()) else {
        return Err(unusable("the bucket is missing"));
    };
    let prefix = url.path().trim_matches('/');
    if object_store::path::Path::from_url_path(prefix).is_err() {
        return Err(unusable("the prefix cannot be part of an object's name"));
    }
    let mut location = (None, None);
    for (name, value) in url.query_pairs() {
        let place = match name.as_ref() {
            "endpoint" => &mut location.0,
            "region" => &mut location.1,
            other => {
                return Err(LocationError::Parameter {
                    name: other.to_owned(),
                });
            }
        };
        *place = Some(value.into_owned());
    }
    let (endpoint, region) = location;
    // Characters that a URL has to escape are in no server's name; it is written again as it stands.
    let is_plain = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_graphic() && !b"#&%+".contains(&b))
    };
    let is_url = |text: &String| {
        let is_http = text.starts_with("http://") || text.starts_with("https://");
        is_http && is_plain(text) && Url::parse(text).is_ok()
    };
    if endpoint.as_ref().is_some_and(|endpoint| !is_url(endpoint)) {
        return Err(unusable(
            "the endpoint must be http://HOST:PORT or https://HOST:PORT",
        ));
    }
    if region.as_ref().is_some_and(|region| !is_plain(region)) {
        return Err(unusable("the region is no name of a region"));
    }
    Ok(Location::Bucket {
        provider,
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint,
        region,
    })
}

/// As it can be written again; never with a secret.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Directory(path) => {
                // What stands before "://" would be read as a scheme.
                let is_like_a_url = path.is_absolute() && path.to_string_lossy().contains("://");
                let scheme = if is_like_a_url { "file://" } else { "" };
                write!(f, "{scheme}{}", path.display())
            }
            Location::Bucket {
                provider,
                bucket,
                prefix,
                endpoint,
                region,
            } => {
                write!(f, "{}://{bucket}", provider.scheme())?;
                if !prefix.is_empty() {
                    write!(f, "/{prefix}")?;
                }
                let mut mark = '?';
                for (name, value) in [("endpoint", endpoint), ("region", region)] {
                    if let Some(value) = value {
                        write!(f, "{mark}{name}={value}")?;
                        mark = '&';
                    }
                }
                Ok(())
            }
        }
    }
}
