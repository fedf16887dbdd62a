//! A file's text cut into YAML documents, by lines, so that one bad document cannot take the others along.

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    /// Index among the documents that hold anything, from 0.
    pub(crate) index: usize,
    /// Line of the file that `text` starts on, from 1.
    pub(crate) line: u32,
    /// The text, without the marker before it.
    pub(crate) text: &'a str,
}

/// Cuts at `---` and `...` lines. YAML forbids both at the start of a line within any scalar (YAML 1.2.2,
/// 9.1.2), so this needs no parser. Documents of blank lines, comments and directives are left out. The
/// documents are in order; cost is linear.
pub(crate) fn documents(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    let mut push = |line: u32, text| {
        if holds_content(text) {
            found.push(Document { index: found.len(), line, text });
        }
    };
    let (mut start, mut start_line) = (0, 1);
    let (mut offset, mut line) = (0, 1);
    for row in text.split_inclusive('\n') {
        if is_marker(row) {
            push(start_line, &text[start..offset]);
            // What follows `---` on its line belongs to the next document.
            start = offset + 3;
            start_line = line;
        }
        offset += row.len();
        line += 1;
    }
    push(start_line, &text[start..]);
    found
}

fn is_marker(row: &str) -> bool {
    let rest = row.strip_prefix("---").or_else(|| row.strip_prefix("..."));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn holds_content(text: &str) -> bool {
    text.lines().map(str::trim_start).any(|row| !row.is_empty() && !row.starts_with(['#', '%']))
}

#[cfg(test)]
mod tests {
    use super::documents;

    fn check(text: &str, expected: &[(u32, &str)]) {
        let found: Vec<_> = documents(text).iter().map(|d| (d.line, d.text.trim())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn documents_are_cut_at_markers_and_keep_their_line() {
        check("", &[]);
        check("\u{feff}a: 1", &[(1, "a: 1")]);
        check("# only\n---\n", &[]);
        check("a: 1\n---\nb: 2\n", &[(1, "a: 1"), (2, "b: 2")]);
        check("---\r\na: 1\r\n--- # next\r\nb: 2\r\n...\r\n", &[(1, "a: 1"), (3, "# next\r\nb: 2")]);
        check("--- {a: 1}\n---\n---\nb: 2", &[(1, "{a: 1}"), (3, "b: 2")]);
        check("%YAML 1.2\n---\na: |\n  ---\n  x\n----\n", &[(2, "a: |\n  ---\n  x\n----")]);
    }
}
