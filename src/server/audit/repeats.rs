//! Equal refusals: one line a second, with their number.

use std::{collections::HashMap, time::Instant};

use serde_json::{Value, json};

use crate::limits::{AUDIT_REPEAT_EVERY, AUDIT_REPEATS_MAX};

/// The refusals of the last second, by what makes them equal.
#[derive(Default)]
pub(super) struct Repeats {
    kinds: HashMap<String, Repeat>,
    /// Those of further kinds.
    others: Option<Repeat>,
}

struct Repeat {
    since: Instant,
    /// The last of the lines that were left out, and their number.
    last: Option<Value>,
    count: u64,
}

impl Repeat {
    fn new(since: Instant) -> Self {
        Self { since, last: None, count: 0 }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= AUDIT_REPEAT_EVERY
    }
}

impl Repeats {
    /// Returns the line if it is to be written now.
    pub(super) fn take(&mut self, key: String, line: Value, now: Instant) -> Option<Value> {
        if let Some(repeat) = self.kinds.get_mut(&key) {
            repeat.count += 1;
            repeat.last = Some(line);
            return None;
        }
        if self.kinds.len() < AUDIT_REPEATS_MAX {
            self.kinds.insert(key, Repeat::new(now));
            return Some(line);
        }
        self.others.get_or_insert_with(|| Repeat::new(now)).count += 1;
        None
    }

    /// The lines whose second is over, each with the number of those that it stands for.
    pub(super) fn over(&mut self, now: Instant) -> Vec<Value> {
        let over = self.kinds.extract_if(|_, repeat| repeat.is_over(now));
        let counted = |(_, repeat): (String, Repeat)| {
            let mut line = repeat.last?;
            line.as_object_mut()?.insert("count".to_owned(), repeat.count.into());
            Some(line)
        };
        let mut lines: Vec<Value> = over.filter_map(counted).collect();
        if let Some(others) = self.others.take_if(|others| others.is_over(now)) {
            lines.push(json!({"outcome": "refused", "call": "others", "count": others.count}));
        }
        lines
    }

    /// All lines that were left out.
    pub(super) fn all(&mut self) -> Vec<Value> {
        let end = Instant::now() + AUDIT_REPEAT_EVERY;
        self.over(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_refusals_are_counted() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        let line = |id: u64| json!({"id": id});
        let take = |repeats: &mut Repeats, key: &str, id| {
            repeats.take(key.to_owned(), line(id), now).is_some()
        };
        assert!(take(&mut repeats, "a", 1));
        assert!(!take(&mut repeats, "a", 2));
        assert!(!take(&mut repeats, "a", 3));
        assert!(take(&mut repeats, "b", 4));
        assert!(repeats.over(now).is_empty());
        let mut expected = line(3);
        expected["count"] = 2.into();
        assert_eq!(repeats.over(now + AUDIT_REPEAT_EVERY), [expected]);
        assert!(take(&mut repeats, "a", 5), "a new second");
        assert!(!take(&mut repeats, "a", 6));
        assert_eq!(repeats.all().len(), 1);
    }

    #[test]
    fn many_kinds_of_refusals_are_one_line() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        let kinds = 2 * AUDIT_REPEATS_MAX;
        let written =
            (0..kinds).filter(|kind| repeats.take(kind.to_string(), json!({}), now).is_some());
        assert_eq!(written.count(), AUDIT_REPEATS_MAX);
        let lines = repeats.over(now + AUDIT_REPEAT_EVERY);
        assert_eq!(
            lines,
            [json!({"outcome": "refused", "call": "others", "count": AUDIT_REPEATS_MAX})]
        );
    }
}
