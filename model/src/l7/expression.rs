//! What a regular expression of a match has to be.

use regex::bytes::RegexBuilder;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind};

/// Bytes that a compiled expression may take. A proxy refuses larger ones, and with them all that is in the
/// same message, so they must not get that far.
pub const EXPRESSION_SIZE_LIMIT: usize = 256 * 1024;

/// How the proxy compiles `pattern`. Expressions are about bytes and mean what they mean to Envoy's RE2: `\d`,
/// `\w` and `\s` are ASCII, which also keeps them small, and a class holds ASCII alone. What is not ASCII is
/// escaped on the wire anyway.
pub fn expression_builder(pattern: &str) -> RegexBuilder {
    let mut builder = RegexBuilder::new(pattern);
    builder.unicode(false).size_limit(EXPRESSION_SIZE_LIMIT).dfa_size_limit(EXPRESSION_SIZE_LIMIT);
    builder
}

/// Checks that `text` is an expression which can be made to match whole values, and is not too large. The
/// error is the reason in one line.
///
/// Small expressions are only parsed, which costs some microseconds; the others are compiled as the proxy
/// compiles them, at up to a hundred times that.
pub fn check_expression(text: &str) -> Result<(), String> {
    // Alone first: "a)|(b" is only an expression between the brackets that make it match the whole value.
    let alone = parse(text)?;
    let whole = format!("^(?:{text})$");
    parse(&whole)?;
    if size(&alone) < EXPRESSION_SIZE_LIMIT / 4 {
        return Ok(());
    }
    match expression_builder(&whole).build() {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(format!("compiles to more than {} KiB", EXPRESSION_SIZE_LIMIT / 1024))
        }
        Err(error) => Err(last_line(&error)),
    }
}

fn parse(text: &str) -> Result<Hir, String> {
    // As `expression_builder` has it.
    let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
    parser.parse(text).map_err(|error| last_line(&error))
}

/// The reason, without the drawing of the place.
fn last_line(error: &impl ToString) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Bytes that the compiled program takes at most, counted generously: a character class is taken for a tree
/// of byte ranges without shared ends.
fn size(hir: &Hir) -> usize {
    const STATE: usize = 40;
    const STATES_OF_RANGE: usize = 32;
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => STATE,
        HirKind::Literal(literal) => STATE.saturating_mul(literal.0.len()),
        HirKind::Class(regex_syntax::hir::Class::Unicode(class)) => {
            (STATE * STATES_OF_RANGE).saturating_mul(class.ranges().len())
        }
        HirKind::Class(regex_syntax::hir::Class::Bytes(class)) => STATE.saturating_mul(class.ranges().len()),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).saturating_add(1);
            size(&repetition.sub).saturating_add(STATE).saturating_mul(times as usize)
        }
        HirKind::Capture(capture) => size(&capture.sub).saturating_add(2 * STATE),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(size).fold(STATE, usize::saturating_add)
        }
    }
}

#[cfg(test)]
mod tests;
