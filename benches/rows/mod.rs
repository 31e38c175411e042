//! Rows of a table of measurements: a number, and what it has to be.

/// A number, and what it has to be.
pub(crate) struct Row {
    what: String,
    value: f64,
    /// The lower and the upper quartile, where it was measured many times.
    spread: Option<(f64, f64)>,
    bar: Bar,
}

/// What a number has to be.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
    Shown,
}

/// A case by its name, and what measures it.
pub(crate) type Case = (&'static str, fn() -> Vec<Row>);

impl Row {
    pub(crate) fn new(what: impl Into<String>, value: f64, bar: Bar) -> Self {
        Self { what: what.into(), value, spread: None, bar }
    }

    /// The middle of `values`.
    pub(crate) fn middle(what: impl Into<String>, values: &mut [f64], bar: Bar) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: usize| values[(values.len() - 1) * share / 4];
        Self { what: what.into(), value: at(2), spread: Some((at(1), at(3))), bar }
    }

    /// Print it, and say whether it clears its bar.
    fn print(&self, case: &str) -> bool {
        let (bar, fine) = match self.bar {
            Bar::AtLeast(bar) => (format!(">= {bar}"), self.value >= bar),
            Bar::AtMost(bar) => (format!("<= {bar}"), self.value <= bar),
            Bar::Shown => (String::new(), true),
        };
        let spread =
            self.spread.map_or(String::new(), |(low, high)| format!(" [{low:.3} {high:.3}]"));
        let value = format!("{:.3}{spread}", self.value);
        let verdict = if fine { "" } else { "NOT CLEARED" };
        println!("{case:36} {value:>26} {bar:>9}  {} {verdict}", self.what);
        fine
    }
}

/// Measure the cases whose names hold one of the arguments, all if there is
/// none, and print their rows; whether each clears its bar.
pub(crate) fn run(cases: &[Case]) -> bool {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    println!("{:36} {:>26} {:>9}", "case", "measured", "bar");
    let mut fine = true;
    for (name, case) in cases {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            for row in case() {
                fine &= row.print(name);
            }
        }
    }
    fine
}
