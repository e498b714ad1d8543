//! How AWS requests and answers look on the wire: AWS JSON 1.0 and 1.1 by `X-Amz-Target`, and Smithy RPC v2 CBOR.
//!
//! In: an HTTP request. Out: the service, the operation and its input as a JSON value; back the other way the
//! answer or an [`AwsError`] in the caller's own protocol. Knows no operation.

pub(crate) mod cbor;
pub(crate) mod page;
pub(crate) mod signature;

use std::io::Read;

use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

const CBOR_PATH: &str = "/service/GraniteServiceVersion20100801/operation/";
/// Requests whose body unpacks to more than this are refused, so that a small gzip cannot fill the memory.
const BODY_BYTES_MAX: u64 = 8 << 20;

/// The API a request is meant for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Api {
    Ecs,
    AutoScaling,
    CloudWatch,
    Logs,
}

impl Api {
    /// The prefix of IAM actions, which also names the API in `/_fake/calls`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Api::Ecs => "ecs",
            Api::AutoScaling => "application-autoscaling",
            Api::CloudWatch => "cloudwatch",
            Api::Logs => "logs",
        }
    }

    fn from_target(prefix: &str) -> Option<Self> {
        match prefix {
            "AmazonEC2ContainerServiceV20141113" => Some(Api::Ecs),
            "AnyScaleFrontendService" => Some(Api::AutoScaling),
            "GraniteServiceVersion20100801" => Some(Api::CloudWatch),
            "Logs_20140328" => Some(Api::Logs),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Json10,
    Json11,
    Cbor,
}

/// A request that was understood as far as the wire goes.
pub(crate) struct Call {
    pub(crate) api: Api,
    pub(crate) operation: String,
    pub(crate) input: Value,
    pub(crate) protocol: Protocol,
    /// From the credential scope of the signature.
    pub(crate) region: String,
}

/// An error as AWS says it: the shape's name, the older query code where the API has one, members beside the message.
#[derive(Debug, Clone)]
pub(crate) struct AwsError {
    pub(crate) shape: &'static str,
    query_code: Option<&'static str>,
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    members: Map<String, Value>,
}

impl AwsError {
    pub(crate) fn new(shape: &'static str, message: impl Into<String>) -> Self {
        AwsError {
            shape,
            query_code: None,
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            members: Map::new(),
        }
    }

    /// CloudWatch was once a query API; SDKs still read the old code from a header.
    pub(crate) fn query(mut self, code: &'static str) -> Self {
        self.query_code = Some(code);
        self
    }

    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn member(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    fn unknown_operation(message: String) -> Self {
        AwsError::new("UnknownOperationException", message)
    }
}

/// Reads the request line, headers and body.
pub(crate) fn read(method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Result<Call, Box<Response>> {
    if method != Method::POST {
        return Err(Box::new(StatusCode::NOT_FOUND.into_response()));
    }
    if let Some(operation) = uri.path().strip_prefix(CBOR_PATH) {
        let refuse = |error: AwsError| Box::new(answer_error(Protocol::Cbor, &error));
        let body = unpack(headers, body).map_err(refuse)?;
        let input = cbor::decode(&body).map_err(|why| refuse(AwsError::new("SerializationException", why)))?;
        let region = region(headers).map_err(refuse)?;
        return Ok(Call {
            api: Api::CloudWatch,
            operation: operation.to_owned(),
            input,
            protocol: Protocol::Cbor,
            region,
        });
    }
    let protocol = match headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()) {
        Some(t) if t.starts_with("application/x-amz-json-1.0") => Protocol::Json10,
        _ => Protocol::Json11,
    };
    let refuse = |error: AwsError| Box::new(answer_error(protocol, &error));
    let target = headers.get("x-amz-target").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (api, operation) = target
        .split_once('.')
        .and_then(|(prefix, operation)| Some((Api::from_target(prefix)?, operation.to_owned())))
        .ok_or_else(|| refuse(AwsError::unknown_operation(format!("no operation for X-Amz-Target {target:?}"))))?;
    let body = unpack(headers, body).map_err(refuse)?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    let input = serde_json::from_slice(text)
        .map_err(|error| refuse(AwsError::new("SerializationException", error.to_string())))?;
    let region = region(headers).map_err(refuse)?;
    Ok(Call { api, operation, input, protocol, region })
}

fn unpack(headers: &HeaderMap, body: &Bytes) -> Result<Vec<u8>, AwsError> {
    if headers.get(CONTENT_ENCODING).is_none_or(|v| v != "gzip") {
        return Ok(body.to_vec());
    }
    let mut plain = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(&body[..]).take(BODY_BYTES_MAX + 1);
    reader
        .read_to_end(&mut plain)
        .map_err(|error| AwsError::new("SerializationException", format!("body is not gzip: {error}")))?;
    if plain.len() as u64 > BODY_BYTES_MAX {
        return Err(AwsError::new("RequestEntityTooLargeException", "request body too large")
            .status(StatusCode::PAYLOAD_TOO_LARGE));
    }
    Ok(plain)
}

/// `AWS4-HMAC-SHA256 Credential=KEY/20261120/eu-west-1/ecs/aws4_request, …`; [`signature::check`] looks at the rest.
fn region(headers: &HeaderMap) -> Result<String, AwsError> {
    let missing = || AwsError::new("MissingAuthenticationTokenException", "Missing Authentication Token");
    let header = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).ok_or_else(missing)?;
    let scope = header.split_once("Credential=").ok_or_else(missing)?.1;
    scope.split('/').nth(2).map(str::to_owned).ok_or_else(missing)
}

/// Reads an operation's input into its struct.
pub(crate) fn input<T: DeserializeOwned>(value: Value) -> Result<T, AwsError> {
    serde_json::from_value(value).map_err(|error| AwsError::new("SerializationException", error.to_string()))
}

pub(crate) fn answer(protocol: Protocol, output: &Value) -> Response {
    respond(protocol, StatusCode::OK, output)
}

pub(crate) fn answer_error(protocol: Protocol, error: &AwsError) -> Response {
    let mut body = error.members.clone();
    let kind = match protocol {
        Protocol::Cbor => format!("com.amazonaws.cloudwatch#{}", error.shape),
        Protocol::Json10 | Protocol::Json11 => error.shape.to_owned(),
    };
    body.insert("__type".to_owned(), json!(kind));
    body.insert("message".to_owned(), json!(error.message));
    let mut response = respond(protocol, error.status, &Value::Object(body));
    if let Some(code) = error.query_code {
        let fault = if error.status.is_server_error() { "Receiver" } else { "Sender" };
        let value = format!("{code};{fault}");
        response.headers_mut().insert(
            "x-amzn-query-error",
            HeaderValue::from_str(&value).expect("codes are ASCII constants of this crate"),
        );
    }
    response
}

fn respond(protocol: Protocol, status: StatusCode, body: &Value) -> Response {
    let (content_type, bytes) = match protocol {
        Protocol::Cbor => ("application/cbor", cbor::encode(body)),
        Protocol::Json10 => ("application/x-amz-json-1.0", body.to_string().into_bytes()),
        Protocol::Json11 => ("application/x-amz-json-1.1", body.to_string().into_bytes()),
    };
    let mut response = (status, [(CONTENT_TYPE, content_type)], bytes).into_response();
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).expect("a UUID is ASCII");
    headers.insert("x-amzn-requestid", id);
    if protocol == Protocol::Cbor {
        headers.insert("smithy-protocol", HeaderValue::from_static("rpc-v2-cbor"));
    }
    response
}
