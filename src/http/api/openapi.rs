//! What is served, as OpenAPI 3.1 tells it: made from the table, so that neither has what the other lacks.

use super::{Answer, Answered, Call, Field, ROUTES, Route};
use actix_web::http::Method;
use serde_json::{Map, Value, json};
use std::future::{self, Ready};

pub(super) fn read(_call: Call) -> Ready<Answered> {
    future::ready(Ok(Answer::json(&document())))
}

fn document() -> Value {
    let mut paths = Map::<String, Value>::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        let method = route.method.as_str().to_ascii_lowercase();
        path[method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cachewarden",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A Redis cache that is kept true to a Postgres database.",
        },
        "paths": paths,
        "security": [{}, { "token": [] }],
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "responses": {
                "Problem": {
                    "description": "Why there is no answer (RFC 9457)",
                    "content": { "application/problem+json": { "schema": problem() } },
                },
            },
        },
    })
}

fn problem() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "code": { "type": "string", "description": "The word of the Redis protocol door, such as BADKEY" },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "summary": route.summary,
        "responses": {
            "200": { "description": "Done", "content": { "application/json": {} } },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    });
    let mut parameters: Vec<Value> = parameters_of(route.path)
        .map(|name| {
            let schema = json!({ "type": "string" });
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    if route.method == Method::GET {
        parameters.extend(route.takes.iter().map(|field| {
            let Field { name, required, .. } = field;
            let schema = schema(field);
            json!({ "name": name, "in": "query", "required": required, "schema": schema })
        }));
    }
    operation["parameters"] = parameters.into();
    if route.method == Method::POST || route.method == Method::PUT {
        let schema = body(route);
        let content = json!({ "application/json": { "schema": schema } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

/// What stands in braces.
fn parameters_of(path: &str) -> impl Iterator<Item = &str> {
    let pieces = path.split('{').skip(1);
    pieces.filter_map(|piece| piece.split_once('}').map(|(name, _)| name))
}

/// Any JSON is a value; everything else is an object.
fn body(route: &Route) -> Value {
    if route.method == Method::PUT {
        return json!({});
    }
    let required = route.takes.iter().filter(|field| field.required);
    let required: Vec<&str> = required.map(|field| field.name).collect();
    let fields = route.takes.iter();
    let fields: Map<String, Value> = fields
        .map(|field| (field.name.to_owned(), schema(field)))
        .collect();
    json!({
        "type": "object",
        "properties": fields,
        "required": required,
        "additionalProperties": false,
    })
}

fn schema(field: &Field) -> Value {
    match field.kind {
        "strings" => json!({ "type": "array", "items": { "type": "string" } }),
        kind => json!({ "type": kind }),
    }
}
