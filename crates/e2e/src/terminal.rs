//! What a person sees: the start's progress, the story's steps, and a live summary below them.

use std::future::Future;
use std::io::{IsTerminal, Write, stdout};
use std::sync::Mutex;
use std::time::Instant;

/// Prints steps as they happen; on a terminal the live block is redrawn in place.
pub struct Progress {
    started: Instant,
    terminal: bool,
    /// Lines of the live block that stand below the cursor's home.
    block_lines: Mutex<usize>,
}

/// Colours only where they say something: green for what came true, red for what broke.
#[derive(Clone, Copy)]
pub enum Tone {
    Plain,
    Good,
    Bad,
}

impl Default for Progress {
    fn default() -> Self {
        Progress { started: Instant::now(), terminal: stdout().is_terminal(), block_lines: Mutex::new(0) }
    }
}

impl Progress {
    /// Runs a step and says how long it took; while it runs a terminal shows its name.
    pub async fn during<T>(&self, what: &str, step: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let started = Instant::now();
        if self.terminal {
            show(&format!("  … {what}"));
        }
        let result = step.await;
        if self.terminal {
            show("\r\x1b[2K");
        }
        match &result {
            Ok(_) => self.line(Tone::Good, &format!("✓ {what} ({:.1} s)", started.elapsed().as_secs_f64())),
            Err(_) => self.line(Tone::Bad, &format!("✕ {what}")),
        }
        result
    }

    /// One line of the story, with the time since the start.
    pub fn event(&self, tone: Tone, text: &str) {
        let seconds = self.started.elapsed().as_secs();
        self.line(tone, &format!("[{:02}:{:02}] {text}", seconds / 60, seconds % 60));
    }

    pub fn note(&self, text: &str) {
        self.line(Tone::Plain, &format!("- {text}"));
    }

    /// Replaces the live block; without a terminal nothing is drawn.
    pub fn block(&self, lines: &[String]) {
        if !self.terminal {
            return;
        }
        let mut drawn = self.block_lines.lock().expect("no one panics holding it");
        let mut out = Self::erase(*drawn);
        for line in lines {
            out.push_str(&format!("\x1b[2K{line}\n"));
        }
        *drawn = lines.len();
        show(&out);
    }

    fn line(&self, tone: Tone, text: &str) {
        let mut drawn = self.block_lines.lock().expect("no one panics holding it");
        let line = match (self.terminal, tone) {
            (true, Tone::Good) => format!("  \x1b[32m{text}\x1b[0m\n"),
            (true, Tone::Bad) => format!("  \x1b[31m{text}\x1b[0m\n"),
            _ => format!("  {text}\n"),
        };
        show(&format!("{}{line}", Self::erase(*drawn)));
        *drawn = 0;
    }

    /// Moves up over the block and clears to the end of the screen.
    fn erase(lines: usize) -> String {
        if lines == 0 { String::new() } else { format!("\x1b[{lines}A\x1b[0J") }
    }
}

/// Nobody may be looking any more; the demo goes on all the same, for it has programs to stop.
fn show(text: &str) {
    let mut out = stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
