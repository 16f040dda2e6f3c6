//! A line of the table: what, measured, goal, and whether it was met.

use crate::results::median;
use serde_json::json;

/// One line.
pub struct Row {
    what: String,
    /// The number that is judged, if there is one.
    value: Option<f64>,
    measured: String,
    goal: String,
    /// Whether the goal was met; None where there is none.
    pub met: Option<bool>,
    /// Whether it could not be measured, or something was wrong with what came.
    pub failed: bool,
}

impl Row {
    /// Judged: `value` must be at most `bound`.
    pub fn at_most(what: &str, value: f64, bound: f64, goal: &str, measured: String) -> Row {
        let met = Some(value <= bound);
        Row {
            what: what.to_string(),
            value: Some(value),
            measured,
            goal: goal.to_string(),
            met,
            failed: false,
        }
    }

    /// Told without a goal.
    pub fn told(what: &str, measured: String) -> Row {
        let what = what.to_string();
        Row { what, value: None, measured, goal: String::new(), met: None, failed: false }
    }

    /// Not measured.
    pub fn failed(what: &str, why: &anyhow::Error) -> Row {
        Row { failed: true, ..Row::told(what, format!("{why:#}")) }
    }

    fn verdict(&self) -> &'static str {
        match (self.failed, self.met) {
            (true, _) => "FAILED",
            (false, None) => "",
            (false, Some(true)) => "met",
            (false, Some(false)) => "MISSED",
        }
    }
}

/// Two sides that took turns.
#[derive(Default)]
pub struct Turns {
    /// The side under load, round by round.
    pub loaded: Vec<f64>,
    /// The other one.
    pub plain: Vec<f64>,
}

impl Turns {
    /// One round.
    pub fn push(&mut self, loaded: f64, plain: f64) {
        self.loaded.push(loaded);
        self.plain.push(plain);
    }

    /// The median of the rounds' ratios.
    pub fn ratio(&self) -> f64 {
        middle(self.loaded.iter().zip(&self.plain).map(|(loaded, plain)| loaded / plain))
    }

    /// Ratio, and the medians of both sides in microseconds.
    pub fn show(&self) -> String {
        let [loaded, plain] = [&self.loaded, &self.plain].map(|side| middle(side.iter().copied()) / 1e3);
        format!("{:.2} x  ({loaded:.1} / {plain:.1} us)", self.ratio())
    }

    /// Judged by its ratio.
    pub fn judge(&self, what: &str, bound: f64) -> Row {
        Row::at_most(what, self.ratio(), bound, &format!("<= {bound:.2} x"), self.show())
    }
}

/// The median of what was measured in at least one round.
pub fn middle(values: impl IntoIterator<Item = f64>) -> f64 {
    median(values.into_iter().collect()).expect("at least one round")
}

/// Prints all of them.
pub fn print(rows: &[Row], as_json: bool) {
    if as_json {
        for Row { what, value, measured, goal, met, failed } in rows {
            let row = json!({"what": what, "value": value, "measured": measured, "goal": goal, "met": met, "failed": failed});
            println!("{row}");
        }
        return;
    }
    let width = |of: fn(&Row) -> &str, heading: &str| {
        rows.iter()
            .filter(|row| !row.failed)
            .map(|row| of(row).chars().count())
            .fold(heading.len(), usize::max)
    };
    let what = width(|row| &row.what, "what");
    let measured = width(|row| &row.measured, "measured");
    let goal = width(|row| &row.goal, "goal");
    println!("{:what$}  {:measured$}  {:goal$}", "what", "measured", "goal");
    for row in rows {
        let line =
            format!("{:what$}  {:measured$}  {:goal$}  {}", row.what, row.measured, row.goal, row.verdict());
        println!("{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, Turns};

    #[test]
    fn a_round_is_judged_against_itself_whatever_the_machine_did_between_rounds() {
        let mut turns = Turns::default();
        for slowness in [1.0, 10.0, 3.0] {
            turns.push(1.2 * slowness, slowness);
        }
        assert!((turns.ratio() - 1.2).abs() < 1e-9);
        assert_eq!(turns.judge("a call", 1.25).met, Some(true));
        assert_eq!(turns.judge("a call", 1.15).met, Some(false));
    }

    #[test]
    fn what_was_not_measured_meets_no_goal() {
        let row = Row::failed("a call", &anyhow::anyhow!("no broker"));
        assert!(row.met.is_none() && row.verdict() == "FAILED");
    }
}
