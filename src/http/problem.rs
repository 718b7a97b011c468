//! What is said to who gets no answer: `application/problem+json` (RFC 9457).

use super::fields::{Fields, seconds};
use crate::rate_limit::Decision;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

/// The draft of the `RateLimit` fields registers it.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// No more than its status says.
const NO_TYPE: &str = "about:blank";
/// When who was refused for a moment may ask again.
const RETRY_AFTER_S: &str = "1";

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated: Option<[&'a str; 1]>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    /// The word before the message on the Redis protocol door: for programs.
    pub code: &'static str,
    /// For people: what, why, and how to mend it.
    pub detail: String,
    /// Methods that would be served, of a 405.
    allow: Option<String>,
}

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            allow: None,
        }
    }

    /// The request itself is wrong.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ERR", detail)
    }

    /// These methods would be served.
    pub fn with_allow(self, methods: &str) -> Self {
        let allow = Some(methods.to_owned());
        Self { allow, ..self }
    }

    pub fn response(&self) -> HttpResponse {
        let problem = Problem {
            kind: NO_TYPE,
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: Some(self.code),
            violated: None,
        };
        let mut response = response(self.status, &problem);
        let header = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, RETRY_AFTER_S)),
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            _ => self.allow.as_deref().map(|methods| (ALLOW, methods)),
        };
        let header = header.map(|(name, value)| (name, HeaderValue::from_str(value)));
        if let Some((name, Ok(value))) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// 429: the limit has been reached.
pub(super) fn quota_exceeded(decision: &Decision, fields: &Fields) -> HttpResponse {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let problem = Problem {
        kind: QUOTA_EXCEEDED,
        title: "Request cannot be satisfied as assigned quota has been exceeded",
        status: status.as_u16(),
        detail: &detail(decision, fields),
        code: None,
        violated: Some([&decision.policy.name]),
    };
    let mut response = response(status, &problem);
    fields.put(response.headers_mut());
    response
}

/// 503: it cannot be told whether the limit has been reached. Why, the log says: it is no business of the client's.
pub(super) fn unavailable() -> HttpResponse {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let problem = Problem {
        kind: NO_TYPE,
        title: "Service Unavailable",
        status: status.as_u16(),
        detail: "it cannot be told now whether this request is within its limits",
        code: None,
        violated: None,
    };
    response(status, &problem)
}

fn detail(decision: &Decision, fields: &Fields) -> String {
    let policy = &decision.policy;
    let limit = format!("limit `{}` lets {} through", policy.name, policy.limit);
    let limit = match policy.window {
        Some(window) => format!("{limit} in {} s", seconds(window)),
        None => format!("{limit} at once"),
    };
    match fields.retry_after_s {
        Some(after_s) => format!("{limit}; ask again in {after_s} s"),
        None => format!("{limit}, and this request asks for more than that"),
    }
}

fn response(status: StatusCode, problem: &Problem<'_>) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("application/problem+json")
        // RFC 6585: a 429 must not be stored; nor would anybody want another of these back.
        .insert_header((CACHE_CONTROL, "no-store"))
        // Texts and numbers can always be written.
        .body(serde_json::to_vec(problem).unwrap_or_default())
}
