//! The description of the API, and what is served.

use std::collections::BTreeMap;

use super::super::support::daemon::config_without_postgres;
use super::super::support::servers::redis;
use super::*;

/// Every method of HTTP that a route can have.
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "PATCH"];

/// What the commands of the other door are called here: a route that nobody describes is not found by asking the description.
const KNOWN: [(&str, &str); 21] = [
    ("/api/v1/keys/{key}", "GET"),
    ("/api/v1/keys/{key}", "PUT"),
    ("/api/v1/keys/{key}", "DELETE"),
    ("/api/v1/read", "POST"),
    ("/api/v1/explain/{key}", "GET"),
    ("/api/v1/invalidate", "POST"),
    ("/api/v1/warm", "POST"),
    ("/api/v1/warm", "GET"),
    ("/api/v1/stats", "GET"),
    ("/api/v1/locks", "GET"),
    ("/api/v1/locks/{name}", "GET"),
    ("/api/v1/locks/{name}/acquire", "POST"),
    ("/api/v1/locks/{name}/extend", "POST"),
    ("/api/v1/locks/{name}/release", "POST"),
    ("/api/v1/locks/{name}/force", "POST"),
    ("/api/v1/limits/check", "POST"),
    ("/api/v1/limits/peek", "POST"),
    ("/api/v1/limits/reset", "POST"),
    ("/api/v1/limits/refund", "POST"),
    ("/api/v1/limits/release", "POST"),
    ("/api/v1/openapi.json", "GET"),
];

#[tokio::test]
async fn every_route_that_is_served_is_described_and_every_one_described_is_served() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), HTTP)).await;
    let description = get(&daemon, "/api/v1/openapi.json").await.json();
    assert_eq!(description["openapi"], "3.1.0");
    let paths = description["paths"].as_object().unwrap();
    let mut described = BTreeMap::new();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            described.insert((path.as_str(), method.to_uppercase()), operation);
        }
    }
    let mut known: Vec<_> = KNOWN.map(|(path, method)| (path, method.to_owned())).into();
    known.sort();
    assert_eq!(described.keys().cloned().collect::<Vec<_>>(), known);
    for path in paths.keys() {
        let example = path.replace("{key}", "nothing:1").replace("{name}", "a");
        for method in METHODS {
            let response = send(&daemon, method, &example, &[], "").await;
            let is_described = described.contains_key(&(path.as_str(), method.to_owned()));
            // What lacks a body is refused with 415, a key that leads nowhere with 404 and its own words.
            let is_served =
                response.status != 405 && !response.body.contains("nothing is served here");
            assert_eq!(is_served, is_described, "{method} {path}: {response:?}");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_described_says_all_that_a_client_needs() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), HTTP)).await;
    let description = get(&daemon, "/api/v1/openapi.json").await.json();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let summary = operation["summary"].as_str().unwrap();
            assert!(summary.ends_with('.'), "{method} {path}: {summary}");
            assert!(operation["responses"]["200"].is_object(), "{method} {path}");
            let parameters = operation["parameters"].as_array().unwrap();
            let in_path = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path");
            let names: Vec<String> = in_path
                .map(|p| format!("{{{}}}", p["name"].as_str().unwrap()))
                .collect();
            let wanted = path.split('/').filter(|part| part.starts_with('{'));
            assert_eq!(names, wanted.collect::<Vec<_>>(), "{path}");
            let has_body = operation["requestBody"].is_object();
            assert_eq!(
                has_body,
                ["post", "put"].contains(&method.as_str()),
                "{method} {path}"
            );
        }
    }
    // Where the description refers to something, that is there.
    let text = description.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(description.pointer(pointer).is_some(), "{pointer}");
    }
    daemon.stop().await;
}

/// The fields that the description names are the ones that are read: each by itself is not unknown.
#[tokio::test]
async fn every_field_that_is_described_is_read_and_no_other() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), HTTP)).await;
    let description = get(&daemon, "/api/v1/openapi.json").await.json();
    let mut seen = 0;
    for (path, operations) in description["paths"].as_object().unwrap() {
        let schema = &operations["post"]["requestBody"]["content"]["application/json"]["schema"];
        let Some(fields) = schema["properties"].as_object() else {
            continue;
        };
        let path = path.replace("{name}", "a");
        let unknown = post(&daemon, &path, "{\"no_such_field\": 1}").await;
        let detail = unknown.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("no_such_field"), "{path}: {detail}");
        for field in fields.keys() {
            seen += 1;
            // No field is an object, so what is complained of is this field's type.
            let refused = post(&daemon, &path, &format!("{{\"{field}\": {{}}}}")).await;
            let detail = refused.json()["detail"].as_str().unwrap().to_owned();
            assert!(
                detail.contains("invalid type: map"),
                "{path} {field}: {detail}"
            );
        }
    }
    assert!(seen > 20, "{seen}");
    daemon.stop().await;
}
