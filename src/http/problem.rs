//! What is said to who is not let through: `application/problem+json` (RFC 9457).

use super::fields::{Fields, seconds};
use crate::rate_limit::Decision;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use serde::Serialize;

/// The draft of the `RateLimit` fields registers it.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// No more than its status says.
const NO_TYPE: &str = "about:blank";

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: String,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated: Option<[&'a str; 1]>,
}

/// 429: the limit has been reached.
pub(super) fn quota_exceeded(decision: &Decision, fields: &Fields) -> HttpResponse {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let problem = Problem {
        kind: QUOTA_EXCEEDED,
        title: "Request cannot be satisfied as assigned quota has been exceeded",
        status: status.as_u16(),
        detail: detail(decision, fields),
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
        detail: "it cannot be told now whether this request is within its limits".into(),
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
        // RFC 6585: a 429 must not be stored; nor would anybody want a 503 back.
        .insert_header((CACHE_CONTROL, "no-store"))
        // Texts and numbers can always be written.
        .body(serde_json::to_vec(problem).unwrap_or_default())
}
