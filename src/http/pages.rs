//! Health and metrics.

use super::door::{Door, Reason};
use actix_web::http::header::{ACCEPT, CACHE_CONTROL};
use actix_web::{HttpRequest, HttpResponse, guard, web};
use serde::Serialize;
use std::fmt::Write;
use std::future::{self, Ready};

/// What Prometheus has always read, and every other program that reads metrics.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Serialize)]
struct Health<'a> {
    status: &'a str,
    reasons: &'a [Reason],
}

pub(super) fn serve(app: &mut web::ServiceConfig) {
    let reads = || web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
    app.service(web::resource("/health/live").route(reads().to(live)))
        .service(web::resource("/health/ready").route(reads().to(ready)))
        .service(web::resource("/metrics").route(reads().to(metrics)));
}

/// Whoever reads this has been answered: the threads turn.
fn live() -> Ready<HttpResponse> {
    future::ready(health(HttpResponse::Ok(), "live", &[]))
}

/// Whether clients should be sent here, and why not.
fn ready(door: web::Data<Door>) -> Ready<HttpResponse> {
    future::ready(match (door.told.unready)().as_slice() {
        [] => health(HttpResponse::Ok(), "ready", &[]),
        reasons => health(HttpResponse::ServiceUnavailable(), "unready", reasons),
    })
}

fn health(
    mut response: actix_web::HttpResponseBuilder,
    status: &str,
    reasons: &[Reason],
) -> HttpResponse {
    response.insert_header((CACHE_CONTROL, "no-store"));
    response.json(Health { status, reasons })
}

fn metrics(request: HttpRequest, door: web::Data<Door>) -> Ready<HttpResponse> {
    let page = (door.told.metrics)();
    let accepted = request.headers().get(ACCEPT);
    let accepted = accepted.and_then(|accepted| accepted.to_str().ok());
    let is_openmetrics =
        accepted.is_some_and(|accepted| accepted.contains("application/openmetrics-text"));
    let (kind, page) = match is_openmetrics {
        true => (OPENMETRICS, page),
        false => (PROMETHEUS, prometheus_text(&page)),
    };
    future::ready(HttpResponse::Ok().content_type(kind).body(page))
}

/// The older format differs in two things: a counter's samples are called as the counter is, and no line ends the page.
fn prometheus_text(openmetrics: &str) -> String {
    let mut page = String::with_capacity(openmetrics.len() + 1024);
    let mut help = None;
    for line in openmetrics.lines() {
        let described = |kind| line.strip_prefix(kind)?.split_once(' ');
        // Writing to a String cannot fail.
        let _infallible = if let Some(text) = described("# HELP ") {
            help = Some(text);
            Ok(())
        } else if let Some((name, kind)) = described("# TYPE ") {
            let end = if kind == "counter" { "_total" } else { "" };
            let told = help.take().filter(|(told, _)| *told == name);
            let told = told.map_or(Ok(()), |(_, text)| {
                writeln!(page, "# HELP {name}{end} {text}")
            });
            told.and_then(|()| writeln!(page, "# TYPE {name}{end} {kind}"))
        } else if line == "# EOF" {
            Ok(())
        } else {
            writeln!(page, "{line}")
        };
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_called_as_their_samples_in_the_older_format() {
        let openmetrics = "# HELP a Of a.\n# TYPE a counter\na_total{b=\"c\"} 1\n\
            # HELP d Of d.\n# TYPE d gauge\nd 2\n# EOF\n";
        let older = "# HELP a_total Of a.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n\
            # HELP d Of d.\n# TYPE d gauge\nd 2\n";
        assert_eq!(prometheus_text(openmetrics), older);
    }
}
