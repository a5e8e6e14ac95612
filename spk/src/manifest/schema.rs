//! The JSON schema of `package.toml`, for editors; made from the very types that read it.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema, as JSON Schema draft 7, which editors of TOML understand.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft07();
    let generator = SchemaGenerator::new(settings);
    let mut schema = generator.into_root_schema_for::<super::Written>().to_value();
    schema["title"] = json!("package.toml");
    // An integer of TOML has 64 bits whatever the type that takes it says.
    let definitions = schema["definitions"].as_object().cloned().unwrap_or_default();
    let mut whole = schema.clone();
    whole["properties"].as_object_mut().map(|keys| keys.remove("variant"));
    let partial = partial(&whole, &definitions);
    for (name, definition) in partial {
        schema["definitions"][name] = definition;
    }
    schema["properties"]["variant"]["items"] = json!({ "$ref": "#/definitions/Variant" });
    schema
}

/// A variant may leave out whatever it does not change: the same tables, with nothing required.
fn partial(whole: &Value, definitions: &Map<String, Value>) -> Vec<(String, Value)> {
    let own = json!({
        "type": "object",
        "description": "The keys of one package that differ. DSM 5 to 7.",
        "properties": whole["properties"],
        "additionalProperties": false,
        "required": ["package"],
    });
    let mut tables = vec![("Variant".to_owned(), redirected(own))];
    for name in TABLES {
        if let Some(mut table) = definitions.get(name).cloned() {
            table.as_object_mut().map(|table| table.remove("required"));
            tables.push((format!("Variant{name}"), redirected(table)));
        }
    }
    tables
}

/// Tables that are merged key by key; what lies in lists is replaced as a whole.
const TABLES: [&str; 7] =
    ["Package", "WrittenDsm", "Folder", "IconFile", "Wizard", "Privilege", "Port"];

/// Lets references to tables lead to those of variants.
fn redirected(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get_mut("$ref") {
                    let name = to.rsplit('/').next().unwrap_or_default();
                    if TABLES.contains(&name) {
                        *to = format!("#/definitions/Variant{name}");
                    }
                }
                map.values_mut().for_each(walk);
            }
            Value::Array(list) => list.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}
