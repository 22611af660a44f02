//! Equal refusals: one line a second, with their number.

use std::{collections::HashMap, time::Instant};

use serde_json::Value;

use crate::limits::{AUDIT_REPEAT_EVERY, AUDIT_REPEATS_MAX};

/// The refusals of the last second.
#[derive(Default)]
pub(super) struct Repeats(HashMap<String, Repeat>);

struct Repeat {
    since: Instant,
    /// The last of the lines that were left out, and their number.
    last: Option<Value>,
    count: u64,
}

/// What makes two refusals equal.
fn key(line: &Value) -> String {
    ["caller", "address", "call", "code"]
        .map(|name| line.get(name).map(Value::to_string).unwrap_or_default())
        .join(" ")
}

impl Repeats {
    /// Returns the line if it is to be written now.
    pub(super) fn take(&mut self, line: Value, now: Instant) -> Option<Value> {
        if let Some(repeat) = self.0.get_mut(&key(&line)) {
            repeat.count += 1;
            repeat.last = Some(line);
            return None;
        }
        // With too many kinds of refusals each is written.
        if self.0.len() < AUDIT_REPEATS_MAX {
            self.0.insert(key(&line), Repeat { since: now, last: None, count: 0 });
        }
        Some(line)
    }

    /// The lines whose second is over, each with the number of those that it stands for.
    pub(super) fn over(&mut self, now: Instant) -> Vec<Value> {
        let is_over = |_: &String, repeat: &mut Repeat| {
            now.saturating_duration_since(repeat.since) >= AUDIT_REPEAT_EVERY
        };
        let over = self.0.extract_if(is_over);
        let counted = |(_, repeat): (String, Repeat)| {
            let mut line = repeat.last?;
            line.as_object_mut()?.insert("count".to_owned(), repeat.count.into());
            Some(line)
        };
        over.filter_map(counted).collect()
    }

    /// All lines that were left out.
    pub(super) fn all(&mut self) -> Vec<Value> {
        let end = Instant::now() + AUDIT_REPEAT_EVERY;
        self.over(end)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_refusals_are_counted() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        let line = |caller: &str, id: u64| json!({"caller": caller, "code": 403, "id": id});
        assert!(repeats.take(line("a", 1), now).is_some());
        assert!(repeats.take(line("a", 2), now).is_none());
        assert!(repeats.take(line("a", 3), now).is_none());
        assert!(repeats.take(line("b", 4), now).is_some());
        assert!(repeats.over(now).is_empty());
        let mut expected = line("a", 3);
        expected["count"] = 2.into();
        assert_eq!(repeats.over(now + AUDIT_REPEAT_EVERY), [expected]);
        assert!(repeats.take(line("a", 5), now).is_some(), "a new second");
        assert!(repeats.take(line("a", 6), now).is_none());
        assert_eq!(repeats.all().len(), 1);
    }
}
