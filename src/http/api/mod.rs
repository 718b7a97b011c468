//! `/api/v1/…`: what the commands of the Redis protocol door do, as JSON over HTTP. One table, one file a group.

mod caches;
mod failure;
mod keys;
mod limits;
mod locks;
mod openapi;

use super::door::Door;
use super::problem::Refusal;
use actix_web::error::PayloadError;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::future::{self, Ready};
use std::time::Duration;

/// The longest body of a request.
const MAX_BODY: usize = 1 << 20;
/// A body must be there within this time.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Characters of what was changed that the audit line repeats.
const SHOWN: usize = 200;

/// A request with all that belongs to it.
pub(super) struct Call {
    door: web::Data<Door>,
    request: HttpRequest,
    body: Bytes,
}

/// What came of it.
pub(super) struct Answer {
    response: HttpResponse,
    /// What was changed, and how much of it: for the audit line.
    changed: Option<(String, u64)>,
}

type Answered = Result<Answer, Refusal>;

/// A field of a request's JSON, or a parameter of its query, in the words of OpenAPI.
pub(super) struct Field {
    name: &'static str,
    kind: &'static str,
    required: bool,
}

const fn required(name: &'static str, kind: &'static str) -> Field {
    Field {
        name,
        kind,
        required: true,
    }
}

const fn optional(name: &'static str, kind: &'static str) -> Field {
    Field {
        name,
        kind,
        required: false,
    }
}

/// A line of the table.
pub(super) struct Route {
    method: Method,
    path: &'static str,
    /// The JSON that a `POST` takes, or the query of a `GET`.
    takes: &'static [Field],
    summary: &'static str,
    run: fn(Call) -> LocalBoxFuture<'static, Answered>,
}

impl Route {
    /// Whether it goes on when its client leaves: what may change something does, but for waiting.
    fn is_seen_through(&self) -> bool {
        let waits = self.takes.iter().any(|field| field.name == "wait_ms");
        self.method != Method::GET && !waits
    }
}

macro_rules! routes {
    ($($method:ident $path:literal $group:ident::$run:ident [$($field:expr),*] $summary:literal;)*) => {
        /// Everything that is served below `/api/v1`.
        pub(super) const ROUTES: &[Route] = &[$(Route {
            method: Method::$method, path: $path, takes: &[$($field),*], summary: $summary,
            run: |call| Box::pin($group::$run(call)),
        }),*];
    };
}

routes! {
    GET "/api/v1/keys/{key}" keys::read [] "Returns the value of a declared key, loading it if it is not cached.";
    PUT "/api/v1/keys/{key}" keys::save [] "Saves a JSON value in Postgres, by the statement that the key's cache declares.";
    DELETE "/api/v1/keys/{key}" keys::delete [] "Deletes the row where the key's cache declares it; else invalidates the key.";
    POST "/api/v1/read" keys::read_many [required("keys", "strings")] "Returns the values of keys; those of one cache that are not cached are loaded by one query.";
    GET "/api/v1/explain/{key}" caches::explain [] "Tells all that is known of a key.";
    POST "/api/v1/invalidate" caches::invalidate [optional("keys", "strings"), optional("patterns", "strings"), optional("caches", "strings"), optional("dry_run", "boolean")] "Invalidates keys, whatever matches patterns, and whole caches; answered once acknowledged. With `dry_run`, counts what that would remove.";
    POST "/api/v1/warm" caches::warm [optional("caches", "strings"), optional("force", "boolean")] "Loads caches before they are read; answered when all of them are done.";
    GET "/api/v1/warm" caches::warming [] "Tells how far the warmup of each cache is, or what came of the last.";
    GET "/api/v1/stats" caches::stats [] "Tells what the daemon counts.";
    GET "/api/v1/locks" locks::list [optional("prefix", "string")] "Tells of all locks that are held or waited for, and whose names begin so.";
    GET "/api/v1/locks/{name}" locks::info [] "Tells who holds a lock, by its fence, for how long, and how many wait.";
    POST "/api/v1/locks/{name}/acquire" locks::acquire [required("ttl_ms", "integer"), optional("wait_ms", "integer"), optional("shared", "boolean"), optional("permits", "integer"), optional("token", "string")] "Takes a lock, or waits for it; returns its token and its fence, or 409.";
    POST "/api/v1/locks/{name}/extend" locks::extend [required("token", "string"), required("ttl_ms", "integer")] "Holds a lock for so many milliseconds from now on.";
    POST "/api/v1/locks/{name}/release" locks::release [required("token", "string")] "Lets a lock go.";
    POST "/api/v1/locks/{name}/force" locks::force [] "Takes a lock away from whoever holds it.";
    POST "/api/v1/limits/check" limits::check [required("limits", "string"), required("subject", "string"), optional("cost", "integer"), optional("id", "string")] "Lets a subject through limits, named with commas between them, or refuses it with 429; takes from all of them or from none.";
    POST "/api/v1/limits/peek" limits::peek [required("limits", "string"), required("subject", "string"), optional("cost", "integer")] "Tells what a check would answer, and takes nothing.";
    POST "/api/v1/limits/reset" limits::reset [required("limit", "string"), required("subject", "string")] "Forgets what a subject has taken of a limit.";
    POST "/api/v1/limits/refund" limits::refund [required("limit", "string"), required("subject", "string"), required("amount", "integer")] "Gives back what a subject has taken of a limit and not used.";
    POST "/api/v1/limits/release" limits::release [required("limit", "string"), required("subject", "string"), required("id", "string")] "Ends a request in flight that a limit counts.";
    GET "/api/v1/openapi.json" openapi::read [] "Returns this description.";
}

pub(super) fn serve(app: &mut web::ServiceConfig) {
    let mut paths = BTreeMap::<&str, Vec<&'static Route>>::new();
    for route in ROUTES {
        paths.entry(route.path).or_default().push(route);
    }
    for (path, routes) in paths {
        let mut resource = web::resource(path);
        for route in &routes {
            let run = |route: &'static Route| {
                move |request, payload, door| answer(route, request, payload, door)
            };
            resource = resource.route(web::method(route.method.clone()).to(run(route)));
            if route.method == Method::GET {
                resource = resource.route(web::head().to(run(route)));
            }
        }
        let known = routes.iter().map(|route| route.method.as_str());
        let known = known.collect::<Vec<_>>().join(", ");
        let refuse = move || future::ready(no_such_method(&known));
        app.service(resource.default_service(web::to(refuse)));
    }
}

/// A path that leads nowhere.
pub(super) fn nothing_here() -> Ready<HttpResponse> {
    let detail = "nothing is served here; /api/v1/openapi.json tells what is";
    future::ready(Refusal::new(StatusCode::NOT_FOUND, "ERR", detail).response())
}

fn no_such_method(known: &str) -> HttpResponse {
    let detail = format!("this path takes {known}");
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "ERR", detail);
    refusal.with_allow(known).response()
}

async fn answer(
    route: &'static Route,
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> HttpResponse {
    let body = match body_of(route, &request, payload).await {
        Ok(body) => body,
        Err(refusal) => return refusal.response(),
    };
    let call = Call {
        door,
        request,
        body,
    };
    if !route.is_seen_through() {
        return run(route, call).await;
    }
    // A client that leaves takes only its own task along: what was begun ends, and leaves its line.
    let running = tokio::task::spawn_local(run(route, call)).await;
    running.unwrap_or_else(|_panicked| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Refusal::new(status, "ERR", "the request panicked; the log says where").response()
    })
}

async fn run(route: &Route, call: Call) -> HttpResponse {
    let who = call.request.peer_addr();
    let who = who.map_or("a unix socket".to_owned(), |peer| peer.ip().to_string());
    match (route.run)(call).await {
        Ok(answer) => {
            if let Some((what, count)) = answer.changed {
                let what: String = what.chars().take(SHOWN).collect();
                let command = format!("{} {}", route.method, route.path);
                tracing::info!(target: "cachewarden::audit", who, command, ?what, count, "changed over http");
            }
            answer.response
        }
        Err(refusal) => refusal.response(),
    }
}

/// The whole body, of a request that may have one.
async fn body_of(
    route: &Route,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<Bytes, Refusal> {
    if route.method != Method::POST && route.method != Method::PUT {
        return Ok(Bytes::new());
    }
    // What a form of any page can send is not taken: for anything else a browser asks first, and we do not allow it.
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = "send JSON, and say so: `Content-Type: application/json`";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Refusal::new(status, "ERR", detail));
    }
    let late = || {
        let detail = format!("the body was not there within {} s", BODY_WITHIN.as_secs());
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "ERR", detail)
    };
    let read = tokio::time::timeout(BODY_WITHIN, collect(payload)).await;
    read.map_err(|_elapsed| late())?
}

async fn collect(mut payload: web::Payload) -> Result<Bytes, Refusal> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let broken = |error: PayloadError| Refusal::bad_request(format!("the body: {error}"));
        let chunk = chunk.map_err(broken)?;
        if body.len() + chunk.len() > MAX_BODY {
            let detail = format!("the body has more than {MAX_BODY} bytes");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Refusal::new(status, "ERR", detail));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

impl Call {
    /// What stands in the path where the route has a parameter, decoded.
    fn parameter(&self) -> Result<String, Refusal> {
        let part = self.request.match_info().load::<String>();
        part.map_err(|error| Refusal::bad_request(format!("the path: {error}")))
    }

    /// The body, as JSON of this form.
    fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let read = serde_json::from_slice(&self.body);
        read.map_err(|error| Refusal::bad_request(format!("the body: {error}")))
    }

    /// The query, of this form.
    fn query<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let read = web::Query::from_query(self.request.query_string());
        read.map(web::Query::into_inner)
            .map_err(|error| Refusal::bad_request(format!("the query: {error}")))
    }
}

impl Answer {
    fn json(value: &impl Serialize) -> Self {
        Self::of(
            HttpResponse::Ok()
                .insert_header((CACHE_CONTROL, "no-store"))
                .json(value),
        )
    }

    fn of(response: HttpResponse) -> Self {
        Self {
            response,
            changed: None,
        }
    }

    /// Something was changed by it: so many.
    fn changed(self, what: impl Into<String>, count: u64) -> Self {
        let changed = Some((what.into(), count));
        Self { changed, ..self }
    }
}
