//! Printing: tables for people, documents for scripts, colour only where somebody sees it.

use std::io::{IsTerminal, Write};

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde_json::Value;

use crate::args::{ColorChoice, Format};
use crate::exit::Outcome;

/// Columns that prose has at least, on a terminal however narrow.
const NARROWEST_PROSE: u16 = 30;

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    is_coloured: bool,
    /// Columns of the terminal, less what some tables are moved to the right; `None` where output is piped, which is never broken.
    width: Option<u16>,
}

impl Output {
    /// For this process's standard output.
    pub(crate) fn new(format: Format, color: ColorChoice) -> Self {
        let stdout = std::io::stdout();
        let is_coloured = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            // Knows NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM=dumb.
            ColorChoice::Auto => anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never,
        };
        let width = stdout.is_terminal().then(terminal_size::terminal_size).flatten();
        Self { format, is_coloured, width: width.map(|(width, _)| width.0.saturating_sub(2)) }
    }

    /// Tables, JSON or YAML.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Prints the document as it was asked for; `for_people` makes the text of a table out of [`printable`] values.
    pub(crate) fn show(&self, document: &Value, for_people: impl FnOnce(&Value) -> String) -> Outcome<()> {
        match self.format {
            Format::Table => self.text(&for_people(&printable(document))),
            _ => self.document(document),
        }
    }

    /// Prints a document that has no shape for people: JSON unless YAML was asked for.
    pub(crate) fn document(&self, document: &Value) -> Outcome<()> {
        match self.format {
            Format::Yaml => {
                let text = serde_saphyr::to_string(document).map_err(anyhow::Error::from)?;
                self.text(&text)
            }
            _ => self.text(&serde_json::to_string_pretty(document).map_err(anyhow::Error::from)?),
        }
    }

    /// Prints one document of a stream: a line of JSON, or a YAML document of its own.
    pub(crate) fn streamed(
        &self,
        document: &Value,
        for_people: impl FnOnce(&Value) -> String,
    ) -> Outcome<()> {
        match self.format {
            Format::Table => self.text(&for_people(&printable(document))),
            Format::Json => self.text(&document.to_string()),
            Format::Yaml => {
                let text = serde_saphyr::to_string(document).map_err(anyhow::Error::from)?;
                self.text(&format!("---\n{text}"))
            }
        }
    }

    /// Prints text, ended by one line feed; nothing when it is empty.
    pub(crate) fn text(&self, text: &str) -> Outcome<()> {
        let text = text.trim_end();
        if text.is_empty() {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{text}")?;
        Ok(stdout.flush()?)
    }

    /// An empty table with these columns. Its lines are never broken: who copies an address wants all of it.
    pub(crate) fn table(&self, header: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(header);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.set_content_arrangement(ContentArrangement::Disabled);
        match self.is_coloured {
            true => table.enforce_styling(),
            false => table.force_no_tty(),
        };
        table
    }

    /// The same, its last column being prose, which is broken to the terminal's width.
    pub(crate) fn prose_table(&self, header: &[&str]) -> Table {
        let mut table = self.table(header);
        let Some(width) = self.width else { return table };
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        let last = header.len().saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_constraint(match index == last {
                true => ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST_PROSE)),
                false => ColumnConstraint::ContentWidth,
            });
        }
        table
    }

    /// Text in the colour of what is wrong.
    pub(crate) fn bad(&self, text: &str) -> String {
        self.painted(text, anstyle::AnsiColor::Red)
    }

    /// A word in the colour of its meaning.
    pub(crate) fn word(&self, word: &str) -> String {
        let colour = match meaning(word) {
            Some(Meaning::Good) => anstyle::AnsiColor::Green,
            Some(Meaning::Bad) => anstyle::AnsiColor::Red,
            Some(Meaning::Doubtful) => anstyle::AnsiColor::Yellow,
            None => return word.to_owned(),
        };
        self.painted(word, colour)
    }

    fn painted(&self, text: &str, colour: anstyle::AnsiColor) -> String {
        if !self.is_coloured {
            return text.to_owned();
        }
        let style = colour.on_default();
        format!("{style}{text}{style:#}")
    }
}

/// The text of a table, without blanks at the ends of lines.
pub(crate) fn rendered(table: &Table) -> String {
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// The same, each line moved to the right.
pub(crate) fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// A cell in the colour of its meaning, by its first word.
pub(crate) fn state_cell(text: &str) -> Cell {
    let word = text.split([' ', ':']).next().unwrap_or(text);
    let cell = Cell::new(text);
    match meaning(word) {
        Some(Meaning::Good) => cell.fg(Color::Green),
        Some(Meaning::Bad) => cell.fg(Color::Red),
        Some(Meaning::Doubtful) => cell.fg(Color::Yellow),
        None => cell,
    }
}

/// A cell whose meaning does not follow from its words.
pub(crate) fn judged_cell(text: &str, is_good: bool) -> Cell {
    Cell::new(text).fg(if is_good { Color::Green } else { Color::Red })
}

enum Meaning {
    Good,
    Bad,
    Doubtful,
}

fn meaning(word: &str) -> Option<Meaning> {
    match word {
        "ok" | "True" | "OK" | "Ready" | "active" | "accepted" | "present" | "HEALTHY" => Some(Meaning::Good),
        "degraded" | "False" | "refused" | "error" | "absent" | "UNHEALTHY" | "quarantined" => {
            Some(Meaning::Bad)
        }
        "off" | "Unknown" | "pending" | "warning" | "unknown" | "terminating" | "DEGRADED" => {
            Some(Meaning::Doubtful)
        }
        _ => None,
    }
}

/// A string of a document, empty when it is none.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Any value of a document as a cell: text as it is, lists joined, nothing as `-`.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The items of a list.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `address:port`, IPv6 in brackets.
pub(crate) fn at(address: &Value, port: &Value) -> String {
    let address = text(address);
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

/// The document with its control characters written out: names, paths and values come from whoever may write an object,
/// and must neither move a terminal's cursor nor begin a line.
pub(crate) fn printable(document: &Value) -> Value {
    let written_out = |text: &str| -> String {
        text.chars()
            .flat_map(|character| match character.is_control() {
                true => character.escape_default().collect::<Vec<_>>(),
                false => vec![character],
            })
            .collect()
    };
    match document {
        Value::String(text) => Value::String(written_out(text)),
        Value::Array(items) => items.iter().map(printable).collect(),
        // Labels and headers are keys.
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (written_out(key), printable(value))).collect()
        }
        _ => document.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::printable;

    #[test]
    fn what_people_are_shown_neither_moves_the_cursor_nor_begins_a_line() {
        let document =
            json!({"a\u{1b}": ["/\u{1b}]0;x\u{7}", {"b": "one\ntwo\u{9b}"}], "c": "naïve", "d": 1});
        let shown = json!({
            "a\\u{1b}": ["/\\u{1b}]0;x\\u{7}", {"b": "one\\ntwo\\u{9b}"}], "c": "naïve", "d": 1,
        });
        assert_eq!(printable(&document), shown);
    }
}
