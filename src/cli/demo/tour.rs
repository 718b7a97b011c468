//! Walks through the steps over a real connection, and checks every answer against Postgres.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::DemoError;
use super::chapters;
use super::client::{Client, Reply};
use super::shop::Shop;
use super::steps::{Act, Found, Step, Want};

/// How long something that comes by itself may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// Between two questions whether it has come.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// An answer is shown up to here: the price of a course is still seen.
const SHOWN_CHARS: usize = 80;

/// Each element of a list is shown up to here, so that the last ones are seen as well; all of them up to twice the above.
const SHOWN_CHARS_OF_EACH: usize = 40;

/// Walks all steps with the daemon of this shop, which must be listening, and writes a line for each to `screen`.
/// Gives the number of steps that went wrong.
///
/// # Errors
/// What makes going on senseless: no connection, no Postgres to ask for the truth, no screen.
pub fn tour(shop: &mut Shop, screen: &mut dyn Write) -> Result<usize, DemoError> {
    let daemon = Client::connect("the daemon", shop.daemon_port())?;
    let mut walk = Walk {
        shop,
        daemon,
        answers: HashMap::new(),
    };
    let mut wrong = 0;
    for (number, chapter) in chapters::all().enumerate() {
        show(screen, format_args!("\n{}. {}", number + 1, chapter.title))?;
        for step in chapter.steps {
            let Outcome { line, complaint } = walk.take(step)?;
            show(screen, format_args!("   {line}"))?;
            if let Some(complaint) = complaint {
                wrong += 1;
                show(screen, format_args!("   WRONG: {complaint}"))?;
            }
        }
    }
    let steps: usize = chapters::all().map(|chapter| chapter.steps.len()).sum();
    match wrong {
        0 => show(
            screen,
            format_args!("\nAll {steps} steps went as they should."),
        )?,
        _ => show(
            screen,
            format_args!("\n{wrong} of {steps} steps went wrong."),
        )?,
    }
    Ok(wrong)
}

fn show(screen: &mut dyn Write, line: std::fmt::Arguments<'_>) -> Result<(), DemoError> {
    writeln!(screen, "{line}").map_err(|source| DemoError::Terminal {
        action: "write to the screen",
        source,
    })
}

struct Walk<'a> {
    shop: &'a mut Shop,
    daemon: Client,
    /// The last answer to each command.
    answers: HashMap<String, Reply>,
}

struct Outcome {
    line: String,
    complaint: Option<String>,
}

impl Walk<'_> {
    fn take(&mut self, step: &Step) -> Result<Outcome, DemoError> {
        let start = Instant::now();
        loop {
            let mut outcome = self.once(step)?;
            if !step.waits {
                return Ok(outcome);
            }
            if outcome.complaint.is_none() || start.elapsed() > DEADLINE {
                let took = milliseconds(start.elapsed());
                outcome.line.push_str(&format!(", after {took} in all"));
                return Ok(outcome);
            }
            std::thread::park_timeout(ASK_AGAIN_AFTER);
        }
    }

    fn once(&mut self, step: &Step) -> Result<Outcome, DemoError> {
        match step.act {
            Act::Ask(words) => self.ask(words, step),
            Act::AskRedis(words) => {
                let mut redis = Client::connect("Redis", self.shop.redis.port())?;
                let reply = redis.ask(words)?;
                let line = format!("Redis itself: {} → {}", words.join(" "), shorten(&reply));
                Ok(Outcome {
                    line,
                    complaint: self.complaint(&step.want, &reply, None)?,
                })
            }
            Act::Sql(statement) => {
                let line = format!("psql: {statement}");
                let answer = match self.shop.psql("change the shop", statement) {
                    Err(DemoError::Refused { message, .. }) => Reply::Error(refusal(&message)),
                    printed => Reply::Text(printed?),
                };
                Ok(match (&step.want, &answer) {
                    (Want::Nothing, Reply::Text(_)) => Outcome {
                        line,
                        complaint: None,
                    },
                    (want, answer) => Outcome {
                        line: format!("{line} → {}", shorten(answer)),
                        complaint: self.complaint(want, answer, None)?,
                    },
                })
            }
            Act::Break(name, action) => {
                action(self.shop)?;
                Ok(Outcome {
                    line: format!("({name})"),
                    complaint: None,
                })
            }
        }
    }

    fn ask(&mut self, words: &[&str], step: &Step) -> Result<Outcome, DemoError> {
        // `EXISTS` looks without loading, so it tells beforehand what this will be.
        let found = match (step.found, words) {
            (Some(_), [_, key, ..]) => Some(found(&self.daemon.ask(&["EXISTS", key])?)),
            _ => None,
        };
        let start = Instant::now();
        let reply = self.daemon.ask(words)?;
        let took = milliseconds(start.elapsed());
        let command = words.join(" ");
        let what = found.map_or(String::new(), |found| format!("{found}, "));
        let line = format!("{command} → {}  {what}{took}", shorten(&reply));
        let complaint = match step.found {
            Some(wanted) if found != Some(wanted) => Some(format!("wanted a {wanted}")),
            _ => self.complaint(&step.want, &reply, self.answers.get(&command))?,
        };
        self.answers.insert(command, reply);
        Ok(Outcome { line, complaint })
    }

    /// What is wrong with an answer, if anything.
    fn complaint(
        &self,
        want: &Want,
        reply: &Reply,
        before: Option<&Reply>,
    ) -> Result<Option<String>, DemoError> {
        let truth = |sql: &str| {
            let text = self.shop.psql("tell the truth", sql)?;
            serde_json::from_str(&text).map_err(|source| DemoError::NotJson {
                sql: sql.to_owned(),
                source,
            })
        };
        judge(want, reply, before, &truth)
    }
}

/// Asks Postgres for one JSON value.
type Truth<'a> = dyn Fn(&str) -> Result<Value, DemoError> + 'a;

fn judge(
    want: &Want,
    reply: &Reply,
    before: Option<&Reply>,
    truth: &Truth<'_>,
) -> Result<Option<String>, DemoError> {
    let right = match (want, reply) {
        (Want::Row(sql), _) => {
            return against(
                truth(&format!("SELECT row_to_json(t) FROM ({sql}) t"))?,
                reply,
            );
        }
        (Want::Rows(sql), _) => {
            let all = format!("SELECT coalesce(json_agg(t), '[]') FROM ({sql}) t");
            return against(truth(&all)?, reply);
        }
        (Want::Scalar(sql), _) => {
            return against(truth(&format!("SELECT to_json(({sql}))"))?, reply);
        }
        (Want::AsBefore, _) => before == Some(reply),
        (Want::Text(text), Reply::Text(answer)) => answer == text,
        (Want::Int(number), Reply::Int(answer)) => answer == number,
        (Want::Between(first, last), Reply::Int(answer)) => (first..=last).contains(&answer),
        (Want::Nil, Reply::Nil) => true,
        (Want::Error(start), Reply::Error(line)) => line.starts_with(start),
        (Want::Each(wants), Reply::List(answers)) if wants.len() == answers.len() => {
            return first_complaint(wants.iter().zip(answers), truth);
        }
        (Want::Fields(fields), Reply::List(flat)) => {
            let named = |name: &str| {
                let pair = flat
                    .chunks_exact(2)
                    .find(|pair| matches!(&pair[0], Reply::Text(text) if text == name));
                pair.map_or(&Reply::Nil, |pair| &pair[1])
            };
            return first_complaint(fields.iter().map(|(name, want)| (want, named(name))), truth);
        }
        _ => false,
    };
    Ok((!right).then(|| format!("wanted {want:?}")))
}

fn first_complaint<'a>(
    pairs: impl Iterator<Item = (&'a Want, &'a Reply)>,
    truth: &Truth<'_>,
) -> Result<Option<String>, DemoError> {
    for (want, reply) in pairs {
        if let Some(complaint) = judge(want, reply, None, truth)? {
            return Ok(Some(complaint));
        }
    }
    Ok(None)
}

/// Compared as JSON: blanks between the elements of an array are nobody's business.
fn against(truth: Value, reply: &Reply) -> Result<Option<String>, DemoError> {
    let same = matches!(reply, Reply::Text(text) if serde_json::from_str::<Value>(text).is_ok_and(|value| value == truth));
    Ok((!same).then(|| format!("Postgres says {truth}")))
}

/// What Postgres says of a statement, without the place of it and the hints.
fn refusal(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let said = first.split_once("ERROR:").map_or(first, |(_, said)| said);
    said.trim().to_owned()
}

fn found(exists: &Reply) -> Found {
    if *exists == Reply::Int(1) {
        Found::Hit
    } else {
        Found::Miss
    }
}

fn shorten(reply: &Reply) -> String {
    match reply {
        Reply::List(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| cut(item, SHOWN_CHARS_OF_EACH))
                .collect();
            cut(&format!("[{}]", items.join(", ")), 2 * SHOWN_CHARS)
        }
        // What is wrong, and what to do about it: all of that.
        Reply::Error(_) => reply.to_string(),
        _ => cut(reply, SHOWN_CHARS),
    }
}

/// On one line, between two characters.
fn cut(shown: &impl fmt::Display, chars: usize) -> String {
    let text = shown.to_string();
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(want: &Want, reply: &Reply) -> bool {
        judge(want, reply, None, &|_| Ok(json!([{"id": 1}, {"id": 2}])))
            .unwrap()
            .is_none()
    }

    fn text(text: &str) -> Reply {
        Reply::Text(text.into())
    }

    #[test]
    fn an_answer_is_right_when_it_is_the_same_json_as_the_truth() {
        let want = Want::Rows("");
        assert!(verdict(&want, &text("[{\"id\":1}, \n {\"id\":2}]")));
        assert!(!verdict(&want, &text("[{\"id\":2},{\"id\":1}]")));
        assert!(!verdict(&want, &text("no json")));
        assert!(!verdict(&want, &Reply::Nil));
    }

    #[test]
    fn every_element_of_a_list_and_every_field_of_a_map_is_judged() {
        let want = Want::Each(&[Want::Nil, Want::Int(1)]);
        assert!(verdict(
            &want,
            &Reply::List(vec![Reply::Nil, Reply::Int(1)])
        ));
        assert!(!verdict(
            &want,
            &Reply::List(vec![Reply::Nil, Reply::Int(2)])
        ));
        assert!(!verdict(&want, &Reply::List(vec![Reply::Nil])));
        let want = Want::Fields(&[
            ("state", Want::Text("hit")),
            ("ttl_ms", Want::Between(1, 9)),
        ]);
        let map = |state, ttl| {
            Reply::List(vec![
                text("ttl_ms"),
                Reply::Int(ttl),
                text("state"),
                text(state),
            ])
        };
        assert!(verdict(&want, &map("hit", 9)));
        assert!(!verdict(&want, &map("miss", 9)));
        assert!(!verdict(&want, &map("hit", 10)));
        assert!(!verdict(&want, &Reply::List(vec![])));
    }

    #[test]
    fn an_error_is_right_only_where_one_is_wanted_and_by_its_beginning() {
        let refused = Reply::Error("BADKEY `courses:007`".into());
        assert!(verdict(&Want::Error("BADKEY"), &refused));
        assert!(!verdict(&Want::Error("ERR"), &refused));
        assert!(!verdict(&Want::Error("BADKEY"), &text("BADKEY")));
        assert!(
            !verdict(&Want::AsBefore, &refused),
            "there was nothing before"
        );
    }

    #[test]
    fn a_long_answer_is_cut_between_characters() {
        assert_eq!(
            shorten(&text(&"é".repeat(SHOWN_CHARS + 1))),
            "é".repeat(SHOWN_CHARS) + "…"
        );
        assert_eq!(
            shorten(&Reply::List(vec![text("a"), Reply::Nil])),
            "[a, (nil)]"
        );
    }

    #[test]
    fn the_last_element_of_a_list_is_seen_and_an_error_to_its_end() {
        let long = "x".repeat(SHOWN_CHARS);
        let list = shorten(&Reply::List(vec![text(&long), text("hit")]));
        assert!(list.ends_with("x…, hit]"), "{list}");
        let error = format!("{long} hint");
        assert_eq!(shorten(&Reply::Error(error.clone())), format!("-{error}"));
    }
}
