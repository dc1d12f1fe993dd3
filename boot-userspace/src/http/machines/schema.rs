//! `/api/v1/schemas/inventory.json`: what an inventory looks like, as JSON Schema 2020-12, from the type that is read and written.

use axum::http::StatusCode;
use boot_agent_protocol::{Inventory, SCHEMA};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Shared, json};

/// The path.
const INVENTORY: &str = "/api/v1/schemas/inventory.json";

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(inventory_schema))
}

/// What the inventory of a machine looks like, as JSON Schema (2020-12).
#[utoipa::path(
    get,
    path = INVENTORY,
    operation_id = "inventorySchema",
    responses((status = 200, body = serde_json::Value))
)]
async fn inventory_schema() -> Answer {
    Ok(json(StatusCode::OK, &schema()))
}

/// The document of this version. What the agent sends, and what xpxe shows, has everything but what may not be there.
fn schema() -> Value {
    let mut parts = Vec::new();
    Inventory::schemas(&mut parts);
    let parts: Map<String, Value> =
        parts.into_iter().map(|(name, part)| (name, complete(json!(part)))).collect();
    let mut whole = complete(json!(Inventory::schema()));
    whole["properties"]["schema"] = json!({ "const": SCHEMA, "description": "The version of the document." });
    if let Value::Object(whole) = &mut whole {
        whole.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        whole.insert("title".to_owned(), json!("Inventory of a machine"));
        whole.insert("$defs".to_owned(), Value::Object(parts));
    }
    whole
}

/// OpenAPI names other places, and formats that numbers without a sign do not fit into.
fn complete(mut schema: Value) -> Value {
    let is_there = |(_, value): &(&String, &Value)| !value["type"].is_array() && value.get("oneOf").is_none();
    let all = schema["properties"].as_object();
    let needed: Vec<String> =
        all.into_iter().flatten().filter(is_there).map(|(name, _)| name.clone()).collect();
    schema["required"] = json!(needed);
    walk(&mut schema);
    schema
}

fn walk(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object
                .get("format")
                .is_some_and(|format| format.as_str().is_some_and(|it| it.starts_with("int")))
            {
                object.remove("format");
            }
            if let Some(Value::String(place)) = object.get_mut("$ref") {
                *place = place.replace("#/components/schemas/", "#/$defs/");
            }
            object.values_mut().for_each(walk);
        }
        Value::Array(values) => values.iter_mut().for_each(walk),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_has_all_that_the_schema_asks_for_and_every_part_is_there() {
        let schema = schema();
        let shown = json!(Inventory { schema: SCHEMA, ..Inventory::default() });
        let needed: Vec<&str> =
            schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(needed.contains(&"nics") && !needed.contains(&"bmc"), "{needed:?}");
        assert!(needed.iter().all(|name| shown.get(name).is_some()), "{needed:?}");
        let text = schema.to_string();
        assert!(!text.contains("components") && !text.contains("\"format\":\"int"), "{text}");
        for part in text.split("#/$defs/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schema["$defs"].get(name).is_some(), "there is no {name}");
        }
        assert!(!schema["$defs"]["Nic"]["required"].as_array().unwrap().contains(&json!("lldp")));
    }
}
