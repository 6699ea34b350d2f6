//! Field paths: where in an object a rule looks.

use std::{fmt, sync::Arc};

use smol_str::SmolStr;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a field of a mapping.
    Field(SmolStr),
    /// Into an item of a list.
    Index(usize),
}

/// A path into an object, e.g. `spec.http[0].route`. Longer paths share their beginning, so rules can go down everywhere
/// without copying what is above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path(Option<Arc<Link>>);

#[derive(Debug, PartialEq, Eq)]
struct Link {
    above: Path,
    step: Step,
}

/// Keys in a printed path are cut after so many characters.
const LONGEST_KEY: usize = 80;

impl Path {
    /// The object itself.
    #[must_use]
    pub fn root() -> Self {
        Self(None)
    }

    /// A field of what is here.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.step(Step::Field(name.into()))
    }

    /// An item of what is here.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// One step further.
    #[must_use]
    pub fn step(&self, step: Step) -> Self {
        Self(Some(Arc::new(Link { above: self.clone(), step })))
    }

    /// The steps from the object on.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut here = &self.0;
        while let Some(link) = here {
            steps.push(link.step.clone());
            here = &link.above.0;
        }
        steps.reverse();
        steps
    }

    /// The path around, and the last step.
    #[must_use]
    pub fn split_last(&self) -> (Self, Option<Step>) {
        match &self.0 {
            None => (Self::root(), None),
            Some(link) => (link.above.clone(), Some(link.step.clone())),
        }
    }

    /// The value at this path.
    #[must_use]
    pub fn find_in<'v>(&self, object: &'v serde_json::Value) -> Option<&'v serde_json::Value> {
        self.steps().iter().try_fold(object, |value, step| match step {
            Step::Field(name) => value.get(name.as_str()),
            Step::Index(index) => value.get(*index),
        })
    }

    /// As a JSON pointer (RFC 6901).
    #[must_use]
    pub fn pointer(&self) -> String {
        let token = |step: &Step| match step {
            Step::Index(index) => index.to_string(),
            Step::Field(name) => name.replace('~', "~0").replace('/', "~1"),
        };
        self.steps().iter().fold(String::new(), |text, step| text + "/" + &token(step))
    }

    /// From a JSON pointer ("/spec/http/0") into `object`, whose lists tell an index from a field named by digits.
    #[must_use]
    pub fn from_pointer(pointer: &str, object: &serde_json::Value) -> Self {
        let mut here = Some(object);
        pointer.split('/').skip(1).fold(Self::root(), |path, token| {
            let name = token.replace("~1", "/").replace("~0", "~");
            match here {
                Some(serde_json::Value::Array(items)) => {
                    let index = name.parse().unwrap_or(usize::MAX);
                    here = items.get(index);
                    path.index(index)
                }
                other => {
                    here = other.and_then(|value| value.get(&name));
                    path.field(&name)
                }
            }
        })
    }

    /// From the form that the API server prints: `spec.http[0].route[1].weight`. `None` if it is not of that form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut path = Self::root();
        for part in text.split('.') {
            let (name, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                return None;
            }
            path = path.field(name);
            while let Some(inner) = rest.strip_prefix('[') {
                let (index, behind) = inner.split_once(']')?;
                path = path.index(index.parse().ok()?);
                rest = behind;
            }
            if !rest.is_empty() {
                return None;
            }
        }
        Some(path)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps().iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Field(name) => {
                    let dot = if number == 0 { "" } else { "." };
                    let quoted = name.contains(['.', '[', ' ', '"']) || name.is_empty();
                    let name: String = name.chars().take(LONGEST_KEY).collect();
                    if quoted { write!(f, "[{name:?}]")? } else { write!(f, "{dot}{name}")? }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_people_write_them() {
        let route = Path::root().field("spec").field("http").index(0).field("route");
        assert_eq!(route.to_string(), "spec.http[0].route");
        assert_eq!(route.field("a.b").field("c").to_string(), r#"spec.http[0].route["a.b"].c"#);
        assert_eq!(Path::parse("spec.http[0].route"), Some(route.clone()));
        let object = serde_json::json!({"spec": {"http": [{"route": {}}], "0": 1}});
        assert_eq!(Path::from_pointer("/spec/http/0/route", &object), route);
        assert_eq!(Path::from_pointer("/spec/0", &object), Path::root().field("spec").field("0"));
        assert_eq!(route.field("a/b~c").pointer(), "/spec/http/0/route/a~1b~0c");
    }

    #[test]
    fn only_field_paths_parse() {
        for text in ["", "spec..http", "spec.http[x]", "spec.http[0", "spec.http[0]x", "no such path"] {
            assert_eq!(Path::parse(text), None, "{text:?}");
        }
    }
}
