//! The log on standard error: lines for people, or one JSON document a line for a collector.
//!
//! ```text
//! {"time":"2026-11-22T08:30:00Z","level":"info","message":"answered","path":"/","status":200, …}
//! ```
//!
//! Every line of the second form is whole JSON, whatever was logged. Neither says who asked.

use crate::command_line::LogForm;
use serde_json::{Map, Value};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Characters of one value that are logged.
const VALUE_CHARACTERS_MAX: usize = 2000;

/// Begins to log what is at least as grave as `level`.
pub fn begin(level: &str, form: LogForm) {
    let level = level.parse().unwrap_or(LevelFilter::WARN);
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    match form {
        LogForm::Text => log.with_ansi(false).init(),
        LogForm::Json => log.event_format(JsonLines).init(),
    }
}

struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line(Map::new());
        line.put("time", crate::depot::clock().to_string());
        line.put("level", event.metadata().level().as_str().to_lowercase());
        event.record(&mut line);
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

/// One document, while it is being put together.
struct Line(Map<String, Value>);

impl Line {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text: String = format!("{value:?}").chars().take(VALUE_CHARACTERS_MAX).collect();
        self.put(field.name(), text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value.chars().take(VALUE_CHARACTERS_MAX).collect::<String>());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }
}
