//! Responses made here.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use mesh_l7proxy_config::route::{DirectResponse, Matched};

use crate::body::ResponseBody;
use crate::connection::{Active, Connection};
use crate::failure::Failure;
use crate::headers;
use crate::record::Record;

/// What a local response says.
pub(crate) struct Local<'a> {
    status: StatusCode,
    body: Bytes,
    location: Option<HeaderValue>,
    details: &'static str,
    close: bool,
    matched: Option<Matched<'a>>,
}

impl<'a> Local<'a> {
    pub(crate) fn failure(failure: Failure, matched: Option<Matched<'a>>) -> Self {
        let meaning = failure.meaning();
        Self {
            status: meaning.status,
            body: Bytes::from_static(meaning.body.as_bytes()),
            location: None,
            details: meaning.details,
            close: meaning.close,
            matched,
        }
    }

    pub(crate) fn direct(response: &DirectResponse, matched: Matched<'a>) -> Self {
        Self {
            status: response.status,
            body: response.body.clone(),
            location: None,
            details: "direct_response",
            close: false,
            matched: Some(matched),
        }
    }

    pub(crate) fn redirect(status: StatusCode, location: &str, matched: Option<Matched<'a>>) -> Self {
        match HeaderValue::from_str(location) {
            Ok(location) => Self {
                status,
                body: Bytes::new(),
                location: Some(location),
                details: "direct_response",
                close: false,
                matched,
            },
            Err(_) => Self::failure(Failure::BadRequest("invalid_redirect"), matched),
        }
    }

    /// A gRPC client looks at `grpc-status` alone, and takes any status but 200 for a broken connection
    /// (gRPC's "HTTP to gRPC Status Code Mapping").
    fn into_grpc(mut self, headers: &mut HeaderMap) -> Self {
        let code = match self.status.as_u16() {
            400 => "13",
            401 => "16",
            403 => "7",
            404 => "12",
            429 | 502..=504 => "14",
            _ => "2",
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(code));
        if let Some(message) = HeaderValue::from_bytes(&self.body).ok().filter(|message| !message.is_empty())
        {
            headers.insert(HeaderName::from_static("grpc-message"), message);
        }
        self.body = Bytes::new();
        self.status = StatusCode::OK;
        self
    }

    /// The response with the headers that every local one has.
    pub(crate) fn respond(mut self, mut record: Box<Record>, active: Active) -> Response<ResponseBody> {
        let connection = record.connection.clone();
        let mut headers = HeaderMap::with_capacity(8);
        if let Some(location) = &self.location {
            headers.insert(header::LOCATION, location.clone());
        }
        if record.grpc && self.location.is_none() && !self.status.is_success() {
            self = self.into_grpc(&mut headers);
        }
        if !self.body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        if self.status != StatusCode::NO_CONTENT && !self.status.is_informational() {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        if let Some(matched) = self.matched {
            matched.change_response(None, &mut headers);
        }
        if self.close && record.version != Version::HTTP_2 {
            connection.close_after_requests();
        }
        finish_headers(&mut headers, &connection, record.version);
        record.responding(self.status, &headers, self.details);
        let mut response = Response::new(ResponseBody::local(self.body, record, active));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

/// What every response gets last, wherever it comes from.
pub(crate) fn finish_headers(headers: &mut HeaderMap, connection: &Connection, version: Version) {
    headers::sign(headers, &connection.manager);
    if connection.is_closing() && version != Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}
