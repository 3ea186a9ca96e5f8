//! Which service a URL means, and with what settings. Credentials are left to each service's usual
//! chain of environment variables, profiles and machine identities, but for WebDAV, which has none.

use std::time::Duration;

use opendal::services::{Azblob, Gcs, S3, Webdav};
use opendal::{HttpTransporter, OperationContext, Operator};

use super::credentials::Credentials;
use super::fault::{SEE, remote_error};
use super::parameters::Parameters;
use super::transport::Transport;
use super::{NamedBy, RemoteError, RemoteUrl, refused, root};
use crate::cache::remote::secrets::{is_loopback, variable};

/// The operator for the service at `url`. Nothing is requested yet.
pub(super) fn operator(
    url: &RemoteUrl,
    named_by: NamedBy,
    connect_timeout: Duration,
) -> Result<Operator, RemoteError> {
    let operator = match url.scheme() {
        "s3" => s3(url),
        "gs" => gcs(url, named_by),
        "azblob" => azblob(url, named_by),
        _ => webdav(url, &Credentials::from_environment(url, named_by)?),
    }?;
    let credentials = match url.scheme() {
        "webdav" | "webdavs" => "see RIVET_REMOTE_USER and RIVET_REMOTE_PASSWORD, or RIVET_REMOTE_TOKEN",
        _ => SEE,
    };
    let transport = Transport::new(connect_timeout, credentials)
        .map_err(|error| refused(format_args!("HTTP cannot be set up: {error}")))?;
    let context = OperationContext::new().with_http_transport(HttpTransporter::new(transport));
    Ok(operator.with_context(context))
}

/// Amazon S3 and what is compatible.
fn s3(url: &RemoteUrl) -> Result<Operator, RemoteError> {
    let known = ["region", "endpoint", "profile", "virtual_host", "storage_class", "sse", "anonymous"];
    let parameters = Parameters::of(url, &known)?;
    let mut service = S3::default().bucket(container(url)?).root(&root(url)?);
    match (parameters.get("region"), variable("AWS_REGION")?.or(variable("AWS_DEFAULT_REGION")?)) {
        (Some(region), _) => service = service.region(region),
        (None, Some(region)) => service = service.region(&region),
        // Servers of one's own seldom have regions, but signatures name one.
        (None, None) if parameters.get("endpoint").is_some() => service = service.region("us-east-1"),
        (None, None) => {
            return Err(refused("the region is missing: add `?region=…`, or set AWS_REGION"));
        }
    }
    if let Some(endpoint) = endpoint(&parameters)? {
        service = service.endpoint(endpoint);
    }
    if let Some(class) = parameters.get("storage_class") {
        service = service.default_storage_class(class);
    }
    if let Some(encryption) = parameters.get("sse") {
        service = service.server_side_encryption(encryption);
    }
    if let Some(profile) = parameters.get("profile") {
        service = service.profile(profile);
    }
    if parameters.flag("virtual_host")? {
        service = service.enable_virtual_host_style();
    }
    if parameters.flag("anonymous")? {
        service = service.skip_signature();
    }
    made(Operator::new(service))
}

/// Google Cloud Storage.
fn gcs(url: &RemoteUrl, named_by: NamedBy) -> Result<Operator, RemoteError> {
    let parameters = Parameters::of(url, &["endpoint", "storage_class", "anonymous"])?;
    let is_anonymous = parameters.flag("anonymous")?;
    let mut service = Gcs::default().bucket(container(url)?).root(&root(url)?);
    if let Some(endpoint) = users_endpoint(named_by, &parameters)? {
        if !is_anonymous {
            not_in_clear(endpoint, "a token")?;
        }
        service = service.endpoint(endpoint);
    }
    if let Some(class) = parameters.get("storage_class") {
        service = service.default_storage_class(class);
    }
    if is_anonymous {
        service = service.skip_signature();
    }
    made(Operator::new(service))
}

/// Azure Blob Storage. Its own tools say AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, other programs
/// AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY.
fn azblob(url: &RemoteUrl, named_by: NamedBy) -> Result<Operator, RemoteError> {
    let parameters = Parameters::of(url, &["account", "endpoint"])?;
    let endpoint = users_endpoint(named_by, &parameters)?;
    // Only signatures made with an account's key are sent; any other credential is itself sent, and must be
    // encrypted.
    let mut only_signs = false;
    let mut users_own = None;
    let mut service = match variable("AZURE_STORAGE_CONNECTION_STRING")? {
        Some(text) => {
            users_own = endpoint_in(&text);
            only_signs = text.contains("AccountKey=") && !text.contains("SharedAccessSignature=");
            Azblob::from_connection_string(&text)
                .map_err(|_| refused("AZURE_STORAGE_CONNECTION_STRING is not a connection string"))?
        }
        None => {
            let account = match parameters.get("account") {
                Some(account) => Some(account.to_owned()),
                None => variable("AZURE_STORAGE_ACCOUNT")?.or(variable("AZURE_STORAGE_ACCOUNT_NAME")?),
            };
            let Some(account) = account else {
                return Err(refused(
                    "the account is missing: add `?account=…`, or set AZURE_STORAGE_ACCOUNT",
                ));
            };
            if !is_account(&account) {
                return Err(refused("an account has 3 to 24 small letters and digits"));
            }
            let mut service = Azblob::default()
                .endpoint(&format!("https://{account}.blob.core.windows.net"))
                .account_name(&account);
            if let Some(key) = variable("AZURE_STORAGE_KEY")?.or(variable("AZURE_STORAGE_ACCOUNT_KEY")?) {
                only_signs = true;
                service = service.account_key(&key);
            }
            if let Some(token) = variable("AZURE_STORAGE_SAS_TOKEN")? {
                only_signs = false;
                service = service.sas_token(token.trim_start_matches('?'));
            }
            service
        }
    };
    if let Some(endpoint) = endpoint.or(users_own.as_deref())
        && !only_signs
    {
        not_in_clear(endpoint, "a token")?;
    }
    if let Some(endpoint) = endpoint {
        service = service.endpoint(endpoint);
    }
    made(Operator::new(service.container(container(url)?).root(&root(url)?)))
}

/// The endpoint in a connection string, if it names one.
fn endpoint_in(text: &str) -> Option<String> {
    let value = |name: &str| text.split(';').find_map(|part| part.trim().strip_prefix(name));
    let protocol = || value("DefaultEndpointsProtocol=");
    value("BlobEndpoint=")
        .map(str::to_owned)
        .or_else(|| Some(format!("{}://blob.core.windows.net", protocol()?)))
}

/// Microsoft's rule. Anything else could make another host of the account's.
fn is_account(name: &str) -> bool {
    (3..=24).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn webdav(url: &RemoteUrl, credentials: &Credentials) -> Result<Operator, RemoteError> {
    Parameters::of(url, &[])?;
    let scheme = if url.scheme() == "webdavs" { "https" } else { "http" };
    let host = url.host().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let endpoint = format!("{scheme}://{host}{port}");
    if credentials.has_secret() {
        not_in_clear(&endpoint, "RIVET_REMOTE_PASSWORD or RIVET_REMOTE_TOKEN")?;
    }
    let mut service = Webdav::default().endpoint(&endpoint).root(&root(url)?);
    if let Some(user) = &credentials.user {
        service = service.username(user);
    }
    if let Some(password) = &credentials.password {
        service = service.password(password);
    }
    if let Some(token) = &credentials.token {
        service = service.token(token);
    }
    made(Operator::new(service))
}

/// The bucket or container, which has no port.
fn container(url: &RemoteUrl) -> Result<&str, RemoteError> {
    match (url.host(), url.port()) {
        (Some(name), None) => Ok(name),
        _ => Err(refused("a bucket has no port: a server of one's own is named by `?endpoint=…`")),
    }
}

fn endpoint(parameters: &Parameters) -> Result<Option<&str>, RemoteError> {
    let Some(endpoint) = parameters.get("endpoint") else {
        return Ok(None);
    };
    let odd = || refused("its endpoint must be like https://host:port, without credentials");
    let parsed = url::Url::parse(endpoint).map_err(|_| odd())?;
    let is_plain = matches!(parsed.scheme(), "http" | "https")
        && parsed.username().is_empty()
        && parsed.password().is_none()
        && parsed.query().is_none()
        && parsed.fragment().is_none();
    if is_plain { Ok(Some(endpoint.trim_end_matches('/'))) } else { Err(odd()) }
}

/// The endpoint of a service that is sent tokens, which the user alone may name.
fn users_endpoint(named_by: NamedBy, parameters: &Parameters) -> Result<Option<&str>, RemoteError> {
    match (endpoint(parameters)?, named_by) {
        (Some(_), NamedBy::Spec) => Err(refused(
            "its endpoint would be sent your credentials, and only the spec names it: \
             name it by --remote-cache or RIVET_REMOTE_CACHE",
        )),
        (endpoint, _) => Ok(endpoint),
    }
}

/// An error where `secret` would go to another machine unencrypted.
fn not_in_clear(endpoint: &str, secret: &str) -> Result<(), RemoteError> {
    let parsed = url::Url::parse(endpoint);
    let is_safe =
        parsed.is_ok_and(|parsed| parsed.scheme() == "https" || parsed.host_str().is_some_and(is_loopback));
    let told = || refused(format_args!("{secret} would go unencrypted to another machine: use TLS"));
    if is_safe { Ok(()) } else { Err(told()) }
}

fn made(operator: opendal::Result<Operator>) -> Result<Operator, RemoteError> {
    operator.map_err(|error| remote_error("setting it up", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_says_where_it_leads() {
        let at = |text: &str| endpoint_in(text);
        let signed = "BlobEndpoint=http://cache.example:1/;SharedAccessSignature=sig=x";
        assert_eq!(at(signed).as_deref(), Some("http://cache.example:1/"));
        let usual = "DefaultEndpointsProtocol=http;AccountName=ann;AccountKey=eA==";
        assert_eq!(at(usual).as_deref(), Some("http://blob.core.windows.net"));
        assert_eq!(at("AccountName=ann"), None);
        assert!(not_in_clear("http://cache.example:1/", "a token").is_err());
        assert!(not_in_clear("http://[::1]:1/", "a token").is_ok());
    }
}
