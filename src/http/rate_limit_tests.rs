//! The middleware in front of small apps, with an actor behind the handle that answers what the test says.

use super::{OnError, RateLimit};
use crate::rate_limit::{
    Asked, Check, Decision, Declared, LimitError, Policy, RateLimitHandle, Release,
};
use crate::store::StoreError;
use actix::{Actor, Context, Handler, ResponseFuture};
use actix_web::body::{BodySize, BoxBody, MessageBody, to_bytes};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, fn_service};
use actix_web::http::header::HeaderValue;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::{App, Error, HttpResponse, error, web};
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::subscriber::set_default;

/// It bounds a failing test; no passing test waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

type Answer = Result<Decision, LimitError>;
type Says = dyn Fn(&Asked) -> Option<Answer>;

/// Answers every question alike; `None`: never.
struct StandIn {
    answer: Box<Says>,
    asked: Arc<Mutex<Vec<Asked>>>,
    released: mpsc::Sender<Release>,
}

impl Actor for StandIn {
    type Context = Context<Self>;
}

impl Handler<Check> for StandIn {
    type Result = ResponseFuture<Vec<Answer>>;

    fn handle(&mut self, check: Check, _: &mut Context<Self>) -> Self::Result {
        let answers = check.asked.iter().map(|asked| (self.answer)(asked));
        let answers: Option<Vec<Answer>> = answers.collect();
        self.asked.lock().extend(check.asked);
        Box::pin(async {
            match answers {
                Some(answers) => answers,
                None => std::future::pending().await,
            }
        })
    }
}

impl Handler<Release> for StandIn {
    type Result = Result<bool, LimitError>;

    fn handle(&mut self, release: Release, _: &mut Context<Self>) -> Self::Result {
        self.released.try_send(release).expect("room");
        Ok(true)
    }
}

struct Stage {
    handle: RateLimitHandle,
    asked: Arc<Mutex<Vec<Asked>>>,
    released: mpsc::Receiver<Release>,
}

impl Stage {
    fn set(answer: impl Fn(&Asked) -> Option<Answer> + 'static) -> Self {
        let (sender, released) = mpsc::channel(16);
        let asked = Arc::default();
        let actor = StandIn {
            answer: Box::new(answer),
            asked: Arc::clone(&asked),
            released: sender,
        };
        let (address, handle) = (actor.start(), RateLimitHandle::unbound(Declared::default()));
        handle.check.bind(address.clone().recipient());
        handle.release.bind(address.recipient());
        Self {
            handle,
            asked,
            released,
        }
    }

    fn limit(&self) -> RateLimit {
        RateLimit::new(&self.handle, "api")
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// The limits of which something was released, of one request.
    async fn released(&mut self, count: usize) -> Vec<Bytes> {
        let asked = self.asked();
        let mut limits = Vec::new();
        while limits.len() < count {
            let release = timeout(DEADLINE, self.released.recv()).await;
            let release = release.expect("in time").expect("an actor");
            assert_eq!(release.subject, asked[0].subject);
            assert_eq!(Some(release.id), asked[0].id);
            limits.push(release.limit);
        }
        limits
    }

    /// Whatever was sent before has come by now: an actor takes its mail in order.
    async fn nothing_was_released(&mut self) {
        let release = Release {
            limit: Bytes::new(),
            subject: Bytes::new(),
            id: Bytes::from_static(b"the last"),
        };
        self.handle
            .release
            .ask(release)
            .await
            .expect("up")
            .expect("true");
        assert_eq!(self.released.try_recv().expect("the last").id, "the last");
    }
}

fn decision(allowed: bool, retry_after: Option<Duration>, id: Option<Bytes>) -> Answer {
    Ok(Decision {
        allowed,
        policy: Arc::new(Policy {
            name: "api".into(),
            limit: 100,
            window: Some(Duration::from_secs(60)),
        }),
        remaining: if allowed { 42 } else { 0 },
        retry_after,
        reset_after: Duration::from_secs(17),
        id,
    })
}

fn allowed(_: &Asked) -> Option<Answer> {
    Some(decision(true, Some(Duration::ZERO), None))
}

fn refused(_: &Asked) -> Option<Answer> {
    Some(decision(false, Some(Duration::from_millis(2_500)), None))
}

fn in_flight(asked: &Asked) -> Option<Answer> {
    Some(decision(true, Some(Duration::ZERO), asked.id.clone()))
}

fn away(_: &Asked) -> Option<Answer> {
    Some(Err(LimitError::Store(StoreError::Away)))
}

fn undeclared(_: &Asked) -> Option<Answer> {
    let name = "api".into();
    Some(Err(LimitError::Undeclared { name }))
}

fn request() -> ServiceRequest {
    let peer = "192.0.2.7:443".parse().expect("an address");
    TestRequest::default().peer_addr(peer).to_srv_request()
}

#[allow(clippy::unused_async, reason = "stands for a handler")]
async fn hello(request: ServiceRequest) -> Result<ServiceResponse<BoxBody>, Error> {
    Ok(request.into_response(HttpResponse::Ok().body("hello")))
}

#[allow(clippy::unused_async, reason = "stands for a handler")]
async fn forbidden() -> Result<ServiceResponse<BoxBody>, Error> {
    Err(error::ErrorForbidden("no"))
}

#[allow(clippy::unused_async, reason = "stands for a handler")]
async fn never() -> Result<ServiceResponse<BoxBody>, Error> {
    panic!("a request that was not let through has reached the handler")
}

/// The answer to one request, of a handler behind the limit.
async fn serve<F>(
    limit: RateLimit,
    handler: impl Fn(ServiceRequest) -> F + Clone + 'static,
) -> Result<ServiceResponse<BoxBody>, Error>
where
    F: Future<Output = Result<ServiceResponse<BoxBody>, Error>> + 'static,
{
    let service = limit.new_transform(fn_service::<_, _, _, _, _, ()>(handler));
    service.await.expect("infallible").call(request()).await
}

/// Its status, and the headers that speak of limits.
fn told(response: &HttpResponse) -> (u16, Vec<String>) {
    let headers = response.headers().iter();
    let limits = headers
        .filter(|(name, _)| name.as_str().contains("ratelimit") || name.as_str() == "retry-after");
    let mut lines: Vec<String> = limits
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
        .collect();
    lines.sort();
    (response.status().as_u16(), lines)
}

async fn problem(response: ServiceResponse<BoxBody>) -> Value {
    let (_, response) = response.into_parts();
    let header = |name| response.headers().get(name).map(HeaderValue::as_bytes);
    assert_eq!(
        header("content-type"),
        Some(&b"application/problem+json"[..])
    );
    assert_eq!(header("cache-control"), Some(&b"no-store"[..]));
    let body = to_bytes(response.into_body()).await.expect("a body");
    serde_json::from_slice(&body).expect("JSON")
}

const LEFT: [&str; 5] = [
    "ratelimit-policy: \"api\";q=100;w=60",
    "ratelimit: \"api\";r=42;t=17",
    "x-ratelimit-limit: 100",
    "x-ratelimit-remaining: 42",
    "x-ratelimit-reset: 17",
];

#[actix_rt::test]
async fn what_is_allowed_goes_on_and_is_told_what_is_left() {
    let stage = Stage::set(allowed);
    let limit = RateLimit::new(&stage.handle, "api, burst").cost(|_| 3);
    let response = serve(limit, hello).await.expect("an answer");
    let (status, headers) = told(response.response());
    assert_eq!((status, &headers[..]), (200, &LEFT.map(String::from)[..]));
    let asked = stage.asked();
    assert_eq!(asked.len(), 1, "one question of both limits");
    assert_eq!(asked[0].limits, "api,burst");
    assert_eq!(asked[0].subject, "192.0.2.7");
    assert_eq!(asked[0].cost, 3);
    let body = to_bytes(response.into_body()).await.expect("a body");
    assert_eq!(body, "hello");
}

#[actix_rt::test]
async fn what_is_refused_reaches_no_handler_and_is_told_when_to_come_back() {
    let stage = Stage::set(refused);
    let response = serve(stage.limit(), |_| never()).await;
    let response = response.expect("an answer");
    let (status, headers) = told(response.response());
    assert_eq!(status, 429);
    let expected = [
        "ratelimit-policy: \"api\";q=100;w=60",
        "ratelimit: \"api\";r=0;t=3",
        "retry-after: 3",
        "x-ratelimit-limit: 100",
        "x-ratelimit-remaining: 0",
        "x-ratelimit-reset: 17",
    ];
    assert_eq!(headers, expected);
    let expected = json!({
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Request cannot be satisfied as assigned quota has been exceeded",
        "status": 429,
        "detail": "limit `api` lets 100 through in 60 s; ask again in 3 s",
        "violated-policies": ["api"],
    });
    assert_eq!(problem(response).await, expected);
}

#[actix_rt::test]
async fn who_asks_for_more_than_there_ever_is_is_not_told_to_come_back() {
    let stage = Stage::set(|_| Some(decision(false, None, None)));
    let response = serve(stage.limit(), hello).await.expect("an answer");
    assert!(!response.headers().contains_key("retry-after"));
    let detail = "limit `api` lets 100 through in 60 s, and this request asks for more than that";
    assert_eq!(problem(response).await["detail"], detail);
}

#[actix_rt::test]
async fn errors_of_what_lies_behind_the_limit_are_told_what_is_left_too() {
    let stage = Stage::set(allowed);
    let answer = serve(stage.limit(), |_| forbidden()).await;
    let error = answer.expect_err("forbidden");
    let (status, headers) = told(&error.error_response());
    assert_eq!((status, &headers[..]), (403, &LEFT.map(String::from)[..]));
}

#[actix_rt::test]
async fn what_has_no_key_or_costs_nothing_is_not_asked_about() {
    let stage = Stage::set(refused);
    let limits = [stage.limit().key(|_| None), stage.limit().cost(|_| 0)];
    for limit in limits {
        let response = serve(limit, hello).await.expect("an answer");
        assert_eq!(told(response.response()), (200, Vec::new()));
    }
    assert!(stage.asked().is_empty());
}

#[actix_rt::test]
async fn a_limiter_without_an_answer_stops_nobody_unless_told_to() {
    let stages = [
        Stage::set(away),
        Stage::set(undeclared),
        Stage {
            handle: RateLimitHandle::unbound(Declared::default()),
            ..Stage::set(allowed)
        },
    ];
    for stage in stages {
        let response = serve(stage.limit(), hello).await.expect("an answer");
        assert_eq!(told(response.response()), (200, Vec::new()));

        let limit = stage.limit().on_error(OnError::Deny);
        let response = serve(limit, |_| never()).await;
        let response = response.expect("an answer");
        assert_eq!(told(response.response()), (503, Vec::new()));
        let expected = json!({
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "it cannot be told now whether this request is within its limits",
        });
        assert_eq!(problem(response).await, expected);
    }
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[actix_rt::test]
async fn that_there_is_no_answer_is_told_once_and_not_for_every_request() {
    type Case = (fn(&Asked) -> Option<Answer>, &'static str, &'static str);
    let cases: [Case; 2] = [
        (away, " WARN", "redis is away"),
        (undeclared, "ERROR", "no limit `api` is declared"),
    ];
    for (answer, level, why) in cases {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        let stage = Stage::set(answer);
        let limit = stage.limit();
        let logged = set_default(subscriber);
        for _ in 0..10 {
            serve(limit.clone(), hello).await.expect("an answer");
        }
        drop(logged);
        let text = String::from_utf8(lines.0.lock().clone()).expect("text");
        assert_eq!(text.matches(why).count(), 1, "{text}");
        assert!(text.contains(level), "{text}");
    }
}

#[allow(clippy::unused_async, reason = "stands for a handler")]
async fn streaming(request: ServiceRequest) -> Result<ServiceResponse<BoxBody>, Error> {
    let parts = ["one", "two"].map(|part| Ok::<_, Error>(Bytes::from_static(part.as_bytes())));
    let body = HttpResponse::Ok().streaming(stream::iter(parts));
    Ok(request.into_response(body))
}

/// What the body gives next.
async fn next(body: &mut BoxBody) -> Option<Bytes> {
    let next = poll_fn(|cx| Pin::new(&mut *body).poll_next(cx)).await;
    next.map(|part| part.expect("a part"))
}

#[actix_rt::test]
async fn a_request_is_in_flight_until_its_last_byte_was_sent() {
    let mut stage = Stage::set(in_flight);
    let limit = RateLimit::new(&stage.handle, "jobs,api");
    let response = serve(limit, streaming).await.expect("an answer");
    let mut body = response.into_body();
    for part in ["one", "two"] {
        stage.nothing_was_released().await;
        assert_eq!(next(&mut body).await.expect("more"), part);
    }
    stage.nothing_was_released().await;
    assert_eq!(next(&mut body).await, None);
    assert_eq!(stage.released(2).await, ["jobs", "api"]);
    drop(body);
    stage.nothing_was_released().await;
}

#[actix_rt::test]
async fn a_body_in_flight_is_as_long_as_it_was() {
    let mut stage = Stage::set(in_flight);
    let response = serve(stage.limit(), hello).await.expect("an answer");
    assert_eq!(response.response().body().size(), BodySize::Sized(5));
    stage.nothing_was_released().await;
    let body = to_bytes(response.into_body()).await.expect("a body");
    assert_eq!(body, "hello");
    assert_eq!(stage.released(1).await, ["api"]);
}

#[actix_rt::test]
async fn a_request_that_ends_in_whatever_way_is_released() {
    // In the midst of the body.
    let mut stage = Stage::set(in_flight);
    let response = serve(stage.limit(), streaming).await.expect("an answer");
    let mut body = response.into_body();
    next(&mut body).await.expect("one");
    drop(body);
    assert_eq!(stage.released(1).await, ["api"]);

    // By an error behind us.
    let mut stage = Stage::set(in_flight);
    let failed = serve(stage.limit(), |_| forbidden()).await;
    assert!(failed.is_err());
    assert_eq!(stage.released(1).await, ["api"]);

    // While the handler is at work, or the limiter: it may have counted what nobody waits for any more.
    for answer in [in_flight, (|_| None) as fn(&Asked) -> Option<Answer>] {
        let mut stage = Stage::set(answer);
        let request = actix_rt::spawn(serve(stage.limit(), |_| pending()));
        while stage.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        request.abort();
        assert!(request.await.expect_err("gone").is_cancelled());
        assert_eq!(stage.released(1).await, ["api"]);
    }

    // It may have been counted before Redis went away.
    let mut stage = Stage::set(away);
    let response = serve(stage.limit(), hello).await.expect("an answer");
    stage.nothing_was_released().await;
    drop(response);
    assert_eq!(stage.released(1).await, ["api"]);
}

#[test]
fn a_server_may_end_with_requests_in_flight() {
    let served = actix_rt::System::new().block_on(async {
        let stage = Stage::set(in_flight);
        (serve(stage.limit(), streaming).await, stage)
    });
    // No runtime is there any more that could send a message.
    drop(served);
}

#[actix_rt::test]
async fn what_is_not_in_flight_is_not_released() {
    for answer in [allowed, refused, undeclared] {
        let mut stage = Stage::set(answer);
        drop(serve(stage.limit(), hello).await.expect("an answer"));
        stage.nothing_was_released().await;
    }
}

#[actix_rt::test]
async fn it_wraps_apps_scopes_and_resources_and_each_asks() {
    let stage = Stage::set(allowed);
    let resource = web::resource("/there").to(async || "hello");
    let scope = web::scope("/in").service(resource.wrap(stage.limit()));
    let app = App::new().service(scope.wrap(stage.limit()));
    let app = init_service(app.wrap(stage.limit())).await;
    for (path, status, asked) in [
        ("/in/there", 200, 3),
        ("/in/nowhere", 404, 2),
        ("/", 404, 1),
    ] {
        stage.asked.lock().clear();
        let peer = "192.0.2.7:443".parse().expect("an address");
        let request = TestRequest::with_uri(path).peer_addr(peer).to_request();
        let response = call_service(&app, request).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(stage.asked().len(), asked, "{path}");
        assert_eq!(response.headers().get_all("x-ratelimit-limit").count(), 1);
    }
}
