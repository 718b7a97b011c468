//! A web service whose clients may ask three times a second: limits as a middleware of actix-web.
//!
//! The limit is declared, and counted in Redis, so that it holds over any number of instances of the service.
//!
//! ```text
//! cargo run --example limited_web        # $REDIS_URL, or a private server
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it got")]

mod support;

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use actix_web::{App, HttpServer, web};
use cachewarden::Warden;
use cachewarden::config::Config;
use cachewarden::http::RateLimit;

const LIMITS: &str = r#"
[limits.api]
algorithm = "fixed_window"
limit = 3
window = "1h"
"#;

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (redis_url, _redis) = support::redis()?;
    let config = format!("redis.url = {redis_url:?}\nresp.listen = [\"127.0.0.1:0\"]\n{LIMITS}");
    let warden = Warden::start(Config::from_toml(&config)?).await?;

    let limits = warden.rate_limit().clone();
    let server = HttpServer::new(move || {
        // A request is its caller's, by his address: `key` makes that an API key, or whatever else tells callers apart.
        let limit = RateLimit::new(&limits, "api");
        App::new()
            .wrap(limit)
            .route("/", web::get().to(async || "hello"))
    });
    let server = server.workers(1).bind("127.0.0.1:0")?;
    let address = *server.addrs().first().ok_or("no address")?;
    let server = server.run();
    let stop = server.handle();
    let serving = actix_web::rt::spawn(server);

    let mut told = Vec::new();
    for _ in 0..4 {
        let response = web::block(move || get(address)).await??;
        let head = response.split("\r\n\r\n").next().unwrap_or_default();
        for line in head.lines().filter(|line| is_told(line)) {
            println!("{line}");
        }
        println!();
        told.push(response.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(told, [true, true, true, false]);
    stop.stop(true).await;
    serving.await??;
    warden.stop().await;
    Ok(())
}

/// Whether a line of an answer's head says what the limit said.
fn is_told(line: &str) -> bool {
    let line = line.to_lowercase();
    ["http/", "ratelimit", "x-ratelimit", "retry-after"]
        .iter()
        .any(|begin| line.starts_with(begin))
}

fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}
