//! The middleware: a request is let through, or told when to come back.

use super::fields::Fields;
use super::slot::Slot;
use super::{problem, subject};
use crate::rate_limit::{Ask, Asked, Class, Decision, LimitError, RateLimitHandle};
use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use bytes::Bytes;
use futures_util::future::{LocalBoxFuture, Ready, ready};
use parking_lot::Mutex;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// One line in the log says it as well as the ten thousand that a busy program would write without a limiter.
const BETWEEN_REPORTS: Duration = Duration::from_secs(60);

/// What becomes of a request about which the limiter has no answer. What a limit itself does while Redis is away,
/// `on_redis_error` says; this is for what is left: its actor restarting, overloaded or late, a limit that nobody declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It is let through, without headers.
    #[default]
    Allow,
    /// It is answered 503.
    Deny,
}

type Key = dyn Fn(&ServiceRequest) -> Option<String> + Send + Sync;
type Cost = dyn Fn(&ServiceRequest) -> u64 + Send + Sync;

/// Middleware for actix-web that asks limits before a request goes on: for an `App`, a scope or a resource.
///
/// What was checked has `X-RateLimit-Limit`, `-Remaining` and `-Reset` (seconds from now), `RateLimit-Policy` and
/// `RateLimit` (draft-ietf-httpapi-ratelimit-headers) in its response, all of the limit that refused, or has least left. Who
/// is refused gets 429 with `Retry-After`, and why as `application/problem+json`.
///
/// Where a limit counts what is in flight, a request counts until its response was sent to the last byte, or could not be
/// sent. A client that goes before there is a response ends nothing: actix-web lets the handler go on, so that counts.
///
/// ```
/// use actix_web::{App, HttpServer, web};
/// use cachewarden::http::RateLimit;
/// use cachewarden::rate_limit::RateLimitHandle;
///
/// fn server(limits: RateLimitHandle) -> std::io::Result<actix_web::dev::Server> {
///     let limit = RateLimit::new(&limits, "api,burst").key(|request| {
///         let key = request.headers().get("x-api-key")?;
///         Some(key.to_str().unwrap_or_default().to_owned())
///     });
///     let app = move || {
///         let hello = web::resource("/").to(async || "hello");
///         App::new().service(hello.wrap(limit.clone()))
///     };
///     Ok(HttpServer::new(app).bind(("127.0.0.1", 0))?.run())
/// }
/// ```
#[derive(Clone)]
pub struct RateLimit {
    limiter: RateLimitHandle,
    /// With commas between them, and one by one.
    limits: Bytes,
    names: Arc<[Bytes]>,
    key: Arc<Key>,
    cost: Option<Arc<Cost>>,
    on_error: OnError,
    /// When an error was last reported; one for all threads of a server.
    reported: Arc<Mutex<Option<Instant>>>,
}

impl RateLimit {
    /// Asks `limits`: the names of declared limits, with commas between them. A request takes from all of them, or from
    /// none. Whether they are declared, the first request finds out.
    pub fn new(handle: &RateLimitHandle, limits: &str) -> Self {
        let names: Vec<&str> = limits.split(',').map(str::trim).collect();
        Self {
            limiter: handle.clone(),
            limits: Bytes::from(names.join(",")),
            names: names
                .into_iter()
                .map(|name| Bytes::from(name.to_owned()))
                .collect(),
            key: Arc::new(subject::peer),
            cost: None,
            on_error: OnError::default(),
            reported: Arc::default(),
        }
    }

    /// Who asks; default: the address of the [`peer`](super::peer). Requests without a key are let through, unlimited and
    /// without headers. A key of more than 512 bytes is hashed.
    #[must_use]
    pub fn key(
        mut self,
        key: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.key = Arc::new(key);
        self
    }

    /// How much a request takes; default: 1, and nothing else where a limit counts what is in flight. What costs nothing is
    /// not asked about.
    #[must_use]
    pub fn cost(mut self, cost: impl Fn(&ServiceRequest) -> u64 + Send + Sync + 'static) -> Self {
        self.cost = Some(Arc::new(cost));
        self
    }

    /// What becomes of a request about which the limiter has no answer; default: [`OnError::Allow`].
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// What to ask about a request; none if there is nothing to ask.
    fn question(&self, request: &ServiceRequest) -> Option<Asked> {
        let cost = self.cost.as_ref().map_or(1, |cost| cost(request));
        let key = (self.key)(request).filter(|_| cost > 0)?;
        Some(Asked {
            limits: self.limits.clone(),
            subject: subject::subject(key),
            cost,
            // Named by us, so that it can be released even if the answer never comes, or nobody waits for it any more.
            id: Some(Bytes::from(Uuid::new_v4().simple().to_string())),
            ask: Ask::Take,
        })
    }

    async fn ask(&self, asked: Asked) -> Result<Decision, LimitError> {
        let mut answers = self.limiter.decide(vec![asked]).await;
        let silence = || LimitError::Invalid("the limiter answered nothing".into());
        answers.pop().unwrap_or_else(|| Err(silence()))
    }

    fn report(&self, error: &LimitError) {
        let mut reported = self.reported.lock();
        if reported.is_some_and(|at| at.elapsed() < BETWEEN_REPORTS) {
            return;
        }
        *reported = Some(Instant::now());
        drop(reported);
        let limits = String::from_utf8_lossy(&self.limits);
        let (mend, on_error) = (error.mend(), self.on_error);
        match error.class() {
            Class::Invalid => {
                tracing::error!(%limits, %error, mend, ?on_error, "a limit cannot be asked");
            }
            Class::Busy | Class::Unavailable => {
                tracing::warn!(%limits, %error, mend, ?on_error, "limits have no answer");
            }
        }
    }

    async fn handle<S, B>(
        &self,
        service: Rc<S>,
        request: ServiceRequest,
    ) -> Result<ServiceResponse<BoxBody>, Error>
    where
        S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
        B: MessageBody + 'static,
    {
        let Some(asked) = self.question(&request) else {
            let response = service.call(request).await?;
            return Ok(response.map_into_boxed_body());
        };
        let mut slot = Slot {
            release: self.limiter.release.clone(),
            limits: Arc::clone(&self.names),
            subject: asked.subject.clone(),
            id: asked.id.clone(),
        };
        let fields = match self.ask(asked).await {
            Ok(decision) if decision.allowed => {
                slot.id.clone_from(&decision.id);
                Some(Fields::of(&decision))
            }
            Ok(decision) => {
                slot.id = None;
                let fields = Fields::of(&decision);
                return Ok(request.into_response(problem::quota_exceeded(&decision, &fields)));
            }
            Err(error) => {
                self.report(&error);
                if error.class() == Class::Invalid {
                    slot.id = None;
                }
                if self.on_error == OnError::Deny {
                    return Ok(request.into_response(problem::unavailable()));
                }
                None
            }
        };
        let answer = service.call(request).await;
        match (answer, fields) {
            (Ok(mut response), fields) => {
                if let Some(fields) = fields {
                    fields.put(response.headers_mut());
                }
                Ok(response.map_body(|_, body| slot.held_by(body)))
            }
            (Err(mut error), fields) => {
                if let Some(fields) = fields {
                    error.add_response_mapper(move |mut response| {
                        fields.put(response.headers_mut());
                        response
                    });
                }
                Err(error)
            }
        }
    }
}

impl<S, B> Transform<S, ServiceRequest> for RateLimit
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Transform = Limited<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, Self::InitError>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Limited {
            service: Rc::new(service),
            limit: Rc::new(self.clone()),
        }))
    }
}

/// A service behind [`RateLimit`].
pub struct Limited<S> {
    service: Rc<S>,
    limit: Rc<RateLimit>,
}

impl<S, B> Service<ServiceRequest> for Limited<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let (service, limit) = (Rc::clone(&self.service), Rc::clone(&self.limit));
        Box::pin(async move { limit.handle(service, request).await })
    }
}
