//! Which service a URL means, and with what settings. Credentials are left to each service's usual
//! chain of environment variables, profiles and machine identities, but for WebDAV, which has none.

use std::time::Duration;

use opendal::services::{Azblob, Gcs, S3, Webdav};
use opendal::{HttpTransporter, OperationContext, Operator};

use super::credentials::{Credentials, variable};
use super::fault::remote_error;
use super::parameters::Parameters;
use super::transport::Transport;
use super::{RemoteError, RemoteUrl, refused, root};

/// The operator on the service at `url`, not yet asked for anything.
pub(super) fn operator(
    url: &RemoteUrl,
    patience: Duration,
    credentials: impl FnOnce() -> Result<Credentials, RemoteError>,
) -> Result<Operator, RemoteError> {
    let operator = match url.scheme() {
        "s3" => s3(url),
        "gs" => gcs(url),
        "azblob" => azblob(url),
        _ => webdav(url, credentials()?),
    }?;
    let transport = Transport::new(patience)
        .map_err(|error| refused(url, format_args!("HTTP cannot be set up: {error}")))?;
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
            return Err(refused(url, "the region is missing: add `?region=…`, or set AWS_REGION"));
        }
    }
    if let Some(endpoint) = endpoint(url, &parameters)? {
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
    made(url, Operator::new(service))
}

/// Google Cloud Storage.
fn gcs(url: &RemoteUrl) -> Result<Operator, RemoteError> {
    let parameters = Parameters::of(url, &["endpoint", "storage_class", "anonymous"])?;
    let mut service = Gcs::default().bucket(container(url)?).root(&root(url)?);
    if let Some(endpoint) = endpoint(url, &parameters)? {
        service = service.endpoint(endpoint);
    }
    if let Some(class) = parameters.get("storage_class") {
        service = service.default_storage_class(class);
    }
    if parameters.flag("anonymous")? {
        service = service.skip_signature();
    }
    made(url, Operator::new(service))
}

/// Azure Blob Storage. Its own tools say AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, other programs
/// AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY.
fn azblob(url: &RemoteUrl) -> Result<Operator, RemoteError> {
    let parameters = Parameters::of(url, &["account", "endpoint"])?;
    let mut service = match variable("AZURE_STORAGE_CONNECTION_STRING")? {
        Some(text) => Azblob::from_connection_string(&text)
            .map_err(|_| refused(url, "AZURE_STORAGE_CONNECTION_STRING is not a connection string"))?,
        None => {
            let account = match parameters.get("account") {
                Some(account) => Some(account.to_owned()),
                None => variable("AZURE_STORAGE_ACCOUNT")?.or(variable("AZURE_STORAGE_ACCOUNT_NAME")?),
            };
            let Some(account) = account else {
                return Err(refused(
                    url,
                    "the account is missing: add `?account=…`, or set AZURE_STORAGE_ACCOUNT",
                ));
            };
            let mut service = Azblob::default()
                .endpoint(&format!("https://{account}.blob.core.windows.net"))
                .account_name(&account);
            if let Some(key) = variable("AZURE_STORAGE_KEY")?.or(variable("AZURE_STORAGE_ACCOUNT_KEY")?) {
                service = service.account_key(&key);
            }
            if let Some(token) = variable("AZURE_STORAGE_SAS_TOKEN")? {
                service = service.sas_token(token.trim_start_matches('?'));
            }
            service
        }
    };
    if let Some(endpoint) = endpoint(url, &parameters)? {
        service = service.endpoint(endpoint);
    }
    made(url, Operator::new(service.container(container(url)?).root(&root(url)?)))
}

fn webdav(url: &RemoteUrl, credentials: Credentials) -> Result<Operator, RemoteError> {
    Parameters::of(url, &[])?;
    let scheme = if url.scheme() == "webdavs" { "https" } else { "http" };
    let host = url.host().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let mut service = Webdav::default().endpoint(&format!("{scheme}://{host}{port}")).root(&root(url)?);
    if let Some(user) = &credentials.user {
        service = service.username(user);
    }
    if let Some(password) = &credentials.password {
        service = service.password(password);
    }
    if let Some(token) = &credentials.token {
        service = service.token(token);
    }
    made(url, Operator::new(service))
}

/// The bucket or container, which has no port.
fn container(url: &RemoteUrl) -> Result<&str, RemoteError> {
    match (url.host(), url.port()) {
        (Some(name), None) => Ok(name),
        _ => Err(refused(url, "a bucket has no port: a server of one's own is named by `?endpoint=…`")),
    }
}

fn endpoint<'p>(url: &RemoteUrl, parameters: &'p Parameters) -> Result<Option<&'p str>, RemoteError> {
    let Some(endpoint) = parameters.get("endpoint") else {
        return Ok(None);
    };
    let odd = || refused(url, "its endpoint must be like https://host:port, without credentials");
    let parsed = url::Url::parse(endpoint).map_err(|_| odd())?;
    let is_plain = matches!(parsed.scheme(), "http" | "https")
        && parsed.username().is_empty()
        && parsed.password().is_none()
        && parsed.query().is_none()
        && parsed.fragment().is_none();
    if is_plain { Ok(Some(endpoint.trim_end_matches('/'))) } else { Err(odd()) }
}

fn made(url: &RemoteUrl, operator: opendal::Result<Operator>) -> Result<Operator, RemoteError> {
    operator.map_err(|error| remote_error(url, "setting it up", &error))
}
