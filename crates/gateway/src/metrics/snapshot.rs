//! All numbers of one moment, before they are written in one format or another.

use super::counts::Distribution;
use super::families::{Family, Kind};

/// All numbers of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// In the order of their table.
    pub families: Vec<Lines>,
}

/// The numbers of one family.
#[derive(Debug)]
pub struct Lines {
    /// Which.
    pub family: &'static Family,
    /// One for each set of labels.
    pub lines: Vec<Line>,
}

/// One number, or one histogram.
#[derive(Debug)]
pub struct Line {
    /// Values of the family's labels.
    pub labels: Vec<String>,
    /// What it is.
    pub value: Value,
}

/// What a line says.
#[derive(Debug)]
pub enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Distribution(Distribution),
}

impl Snapshot {
    /// Begins a family; it is there also when no line follows.
    pub fn family(&mut self, family: &'static Family) -> &mut Lines {
        let lines = Vec::new();
        self.families.push(Lines { family, lines });
        self.families.last_mut().expect("it was pushed")
    }

    /// A family with one number and without labels.
    pub fn number(&mut self, family: &'static Family, value: f64) {
        self.family(family).value(&[], value);
    }
}

impl Lines {
    /// A line with these values of the family's labels.
    pub fn value(&mut self, labels: &[&str], value: f64) -> &mut Self {
        debug_assert_ne!(self.family.kind, Kind::Histogram, "{}", self.family.name);
        self.line(labels, Value::Number(value))
    }

    /// A histogram with these values of the family's labels.
    pub fn distribution(&mut self, labels: &[&str], seen: Distribution) -> &mut Self {
        debug_assert_eq!(self.family.kind, Kind::Histogram, "{}", self.family.name);
        self.line(labels, Value::Distribution(seen))
    }

    fn line(&mut self, labels: &[&str], value: Value) -> &mut Self {
        let names = self.family.labels;
        debug_assert_eq!(names.len(), labels.len(), "{}", self.family.name);
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.lines.push(Line { labels, value });
        self
    }
}
