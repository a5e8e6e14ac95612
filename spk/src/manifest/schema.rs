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
    let definitions = schema["definitions"].as_object().cloned().unwrap_or_default();
    let mut whole = schema.clone();
    whole["properties"].as_object_mut().map(|keys| keys.remove("variant"));
    let partial = partial(&whole, &definitions);
    for (name, definition) in partial {
        schema["definitions"][name] = definition;
    }
    schema["properties"]["variant"]["items"] = json!({ "$ref": "#/definitions/Variant" });
    // A variant is another package: its name is the one thing it must say.
    schema["definitions"]["VariantPackage"]["required"] = json!(["name"]);
    in_one_line(&mut schema);
    schema
}

/// Descriptions are comments of the source, which break their lines; editors break them anew.
fn in_one_line(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "description" => *text = text.replace('\n', " "),
                    value => in_one_line(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(in_one_line),
        _ => {}
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = include_str!("../../package.schema.json");

    #[test]
    fn the_schema_editors_read_is_the_one_the_parser_obeys() {
        let made = format!("{:#}\n", schema());
        assert!(COMMITTED == made, "it drifted: spk schema > spk/package.schema.json");
    }

    /// Calls `visit` with each key of each table: its name, its schema, whether it is required.
    fn keys(schema: &Value, visit: &mut impl FnMut(&str, &Value, bool)) {
        let tables = schema["definitions"].as_object().unwrap().iter();
        let tables = tables.filter(|(name, _)| !name.starts_with("Variant"));
        for (name, table) in
            tables.map(|(name, table)| (name.as_str(), table)).chain([("", schema)])
        {
            let required = table["required"].as_array().cloned().unwrap_or_default();
            for (key, value) in table["properties"].as_object().into_iter().flatten() {
                visit(&format!("{name}.{key}"), value, required.contains(&json!(key)));
            }
        }
    }

    #[test]
    fn every_key_says_what_it_is_its_unit_what_holds_without_it_and_for_which_dsm() {
        let mut count = 0;
        keys(&schema(), &mut |key, value, is_required| {
            count += 1;
            let sentence = value["description"].as_str().unwrap_or_default();
            assert!(sentence.contains("DSM 5") || sentence.contains("DSM 6"), "{key}: {sentence}");
            assert!(is_required || sentence.contains("Without it"), "{key}: {sentence}");
            if value["type"].to_string().contains("integer") {
                let units = ["bytes", "number", "bits", "seconds"];
                assert!(units.iter().any(|unit| sentence.contains(unit)), "{key}: {sentence}");
            }
        });
        assert!(count > 80, "{count} keys");
    }
}
