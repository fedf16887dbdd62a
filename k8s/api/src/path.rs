//! Paths of fields within an object.

use std::fmt;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of a mapping.
    Key(String),
    /// An index of a list, from 0.
    Index(usize),
}

/// A path such as `spec.rules[0].host`; keys with dots or slashes are printed in brackets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(pub Vec<Step>);

impl FieldPath {
    /// This path and then `other`.
    pub fn join(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// The path with one key more.
    pub fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Key(key.to_owned()));
        path
    }

    /// The path with one index more.
    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        path.0.push(Step::Index(index));
        path
    }

    /// Reads the printed form back; text in brackets that is no number is a key.
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some((inner, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
                steps.push(inner.parse().map_or_else(|_| Step::Key(inner.to_owned()), Step::Index));
                rest = after.strip_prefix('.').unwrap_or(after);
            } else {
                // The first character is part of the key whatever it is, so that this ends.
                let skip = rest.chars().next().map_or(0, char::len_utf8);
                let end = rest[skip..].find(['.', '[']).map_or(rest.len(), |at| at + skip);
                steps.push(Step::Key(rest[..end].to_owned()));
                rest = rest[end..].strip_prefix('.').unwrap_or(&rest[end..]);
            }
        }
        Self(steps)
    }

    /// The path of a field that `serde_ignored` met.
    pub(crate) fn of_ignored(path: &serde_ignored::Path<'_>) -> Self {
        use serde_ignored::Path;
        match path {
            Path::Root => Self::default(),
            Path::Seq { parent, index } => Self::of_ignored(parent).index(*index),
            Path::Map { parent, key } => Self::of_ignored(parent).key(key),
            Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
                Self::of_ignored(parent)
            }
        }
    }

    /// The path where decoding stopped.
    pub(crate) fn of_error(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        let steps = path.iter().filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        Self(steps.collect())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if key.contains(['.', '/']) => write!(f, "[{key}]")?,
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::FieldPath;

    #[test]
    fn a_path_prints_as_it_was_written() {
        for text in
            ["", "spec", "spec.rules[0].http.paths[12].path", "metadata.annotations[a.io/b].c", "[3].x"]
        {
            assert_eq!(FieldPath::parse(text).to_string(), text);
        }
        for odd in [".", "[", "a..b", "]]", "a[", "é.[ü"] {
            FieldPath::parse(odd);
        }
    }
}
