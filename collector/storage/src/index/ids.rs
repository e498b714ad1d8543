//! A sorted set of series' ids.
//!
//! The series of a target come one after the other, so that what is the same for all of them (instance, job) has runs of
//! ids, and what differs from line to line has single ones at small distances. A set holds both in pieces of 32,768
//! ids: two bytes for a single id, four for a run, and a change moves no more than its piece.

use smallvec::SmallVec;

const PIECE_BITS: u32 = 15;
/// A mark with this bit begins a run, which ends with the mark behind it; one without is a single id, or such an end.
const BEGINS_RUN: u16 = 1 << PIECE_BITS;
const LOW: u16 = BEGINS_RUN - 1;

pub(super) enum Ids {
    /// Most sets, where each series has labels of its own.
    Run {
        first: u32,
        len: u32,
    },
    Many(Box<Pieces>),
}

#[derive(Default)]
pub(super) struct Pieces {
    len: usize,
    /// Ascending; none is empty.
    pieces: Vec<Piece>,
}

/// Ids that have all but their low bits in common.
struct Piece {
    high: u32,
    /// Ascending in their low bits.
    marks: Vec<u16>,
}

impl Default for Ids {
    fn default() -> Self {
        Ids::Run { first: 0, len: 0 }
    }
}

impl Ids {
    pub(super) fn len(&self) -> usize {
        match self {
            Ids::Run { len, .. } => *len as usize,
            Ids::Many(many) => many.len,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an id that is not there.
    pub(super) fn insert(&mut self, id: u32) {
        match self {
            Ids::Run { first, len: len @ 0 } => (*first, *len) = (id, 1),
            Ids::Run { first, len } if *first + *len == id => *len += 1,
            Ids::Run { first, len } if id.checked_add(1) == Some(*first) => (*first, *len) = (id, *len + 1),
            Ids::Run { .. } => self.many().insert(id),
            Ids::Many(many) => many.insert(id),
        }
    }

    /// Takes an id out, if it is there.
    pub(super) fn remove(&mut self, id: u32) {
        match self {
            Ids::Run { first, len } if !(*first..*first + *len).contains(&id) => {}
            Ids::Run { first, len } if *first == id => (*first, *len) = (id + 1, *len - 1),
            Ids::Run { first, len } if *first + *len - 1 == id => *len -= 1,
            Ids::Run { .. } => self.many().remove(id),
            Ids::Many(many) => {
                many.remove(id);
                if let Some((first, last)) = many.only_run() {
                    *self = Ids::Run { first, len: last - first + 1 };
                } else if many.len == 0 {
                    *self = Ids::default();
                }
            }
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<u32> {
        let (first, _) = self.runs().next()?;
        self.remove(first);
        Some(first)
    }

    /// Both ends of each run, ascending; a run may go on in the next one.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u32, u32)> {
        let (run, pieces) = match self {
            Ids::Run { len: 0, .. } => (None, [].as_slice()),
            Ids::Run { first, len } => (Some((*first, first + (len - 1))), [].as_slice()),
            Ids::Many(many) => (None, many.pieces.as_slice()),
        };
        run.into_iter().chain(pieces.iter().flat_map(Piece::runs))
    }

    pub(super) fn add_to(&self, ids: &mut Vec<u32>) {
        ids.reserve(self.len());
        self.runs().for_each(|(first, last)| ids.extend(first..=last));
    }

    /// Of ascending ids those that are in this set, or with `within` false those that are not.
    pub(super) fn retain(&self, ids: &mut Vec<u32>, within: bool) {
        match self {
            Ids::Run { first, len } => ids.retain(|id| id.checked_sub(*first).is_some_and(|at| at < *len) == within),
            Ids::Many(many) => {
                let mut search = Search { pieces: &many.pieces, at: 0 };
                ids.retain(|id| search.finds(*id) == within);
            }
        }
    }

    /// The same ids, in pieces.
    fn many(&mut self) -> &mut Pieces {
        if let Ids::Run { first, len } = *self {
            let mut many = Pieces::default();
            if len > 0 {
                many.push_run(first, first + (len - 1));
            }
            *self = Ids::Many(Box::new(many));
        }
        match self {
            Ids::Many(many) => many,
            Ids::Run { .. } => unreachable!("it was put into pieces above"),
        }
    }
}

/// From ascending runs that do not touch.
impl FromIterator<(u32, u32)> for Ids {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(runs: I) -> Self {
        let mut many = Pieces::default();
        runs.into_iter().for_each(|(first, last)| many.push_run(first, last));
        match many.only_run() {
            Some((first, last)) => Ids::Run { first, len: last - first + 1 },
            None if many.len == 0 => Ids::default(),
            None => Ids::Many(Box::new(many)),
        }
    }
}

impl Pieces {
    /// Adds a run behind all that is there.
    fn push_run(&mut self, mut first: u32, last: u32) {
        self.len += (last - first) as usize + 1;
        loop {
            let high = first >> PIECE_BITS;
            let end = last.min(high << PIECE_BITS | u32::from(LOW));
            if self.pieces.last().is_none_or(|piece| piece.high != high) {
                self.pieces.push(Piece { high, marks: Vec::new() });
            }
            let piece = self.pieces.last_mut().expect("pushed if there was none");
            let at = piece.marks.len();
            piece.replace(at, at, &[(first as u16 & LOW, end as u16 & LOW)]);
            if end == last {
                return;
            }
            first = end + 1;
        }
    }

    fn insert(&mut self, id: u32) {
        let high = id >> PIECE_BITS;
        let at = match self.pieces.last() {
            // A new id is mostly the highest.
            Some(last) if last.high == high => self.pieces.len() - 1,
            _ => self.pieces.partition_point(|piece| piece.high < high),
        };
        if self.pieces.get(at).is_none_or(|piece| piece.high != high) {
            self.pieces.insert(at, Piece { high, marks: Vec::new() });
        }
        self.pieces[at].insert(id as u16 & LOW);
        self.len += 1;
    }

    fn remove(&mut self, id: u32) {
        let Ok(at) = self.pieces.binary_search_by_key(&(id >> PIECE_BITS), |piece| piece.high) else { return };
        let piece = &mut self.pieces[at];
        self.len -= usize::from(piece.remove(id as u16 & LOW));
        if piece.marks.is_empty() {
            self.pieces.remove(at);
        }
    }

    /// Both ends, where all is one run.
    fn only_run(&self) -> Option<(u32, u32)> {
        let [piece] = self.pieces.as_slice() else { return None };
        let mut runs = piece.runs();
        runs.next().filter(|_| piece.marks.len() <= 2 && runs.next().is_none())
    }
}

impl Piece {
    fn runs(&self) -> impl Iterator<Item = (u32, u32)> {
        let whole = |low: u16| self.high << PIECE_BITS | u32::from(low & LOW);
        let mut rest = self.marks.as_slice();
        std::iter::from_fn(move || {
            let (first, behind) = rest.split_first()?;
            match behind.split_first() {
                Some((last, behind)) if first & BEGINS_RUN != 0 => {
                    rest = behind;
                    Some((whole(*first), whole(*last)))
                }
                _ => {
                    rest = behind;
                    Some((whole(*first), whole(*first)))
                }
            }
        })
    }

    /// How many marks stand at or before this id.
    fn marks_to(&self, low: u16) -> usize {
        match self.marks.last() {
            Some(last) if last & LOW <= low => self.marks.len(),
            _ => self.marks.partition_point(|mark| mark & LOW <= low),
        }
    }

    /// Where what ends with the mark before `end` begins, and its first id.
    fn begin_before(&self, end: usize) -> (usize, u16) {
        match end.checked_sub(2).map(|at| (at, self.marks[at])) {
            Some((at, mark)) if mark & BEGINS_RUN != 0 => (at, mark & LOW),
            _ => (end - 1, self.marks[end - 1] & LOW),
        }
    }

    fn insert(&mut self, low: u16) {
        let at = self.marks_to(low);
        let (mut from, mut to, mut first, mut last) = (at, at, low, low);
        if at > 0 && (self.marks[at - 1] & LOW) + 1 == low {
            (from, first) = self.begin_before(at);
        }
        if let Some(next) = self.marks.get(at).filter(|next| *next & LOW == low + 1) {
            to = if next & BEGINS_RUN != 0 { at + 2 } else { at + 1 };
            last = self.marks[to - 1] & LOW;
        }
        // The run before goes on, which is what a new target's ids do.
        if to == at && from + 2 == at {
            self.marks[at - 1] = low;
            return;
        }
        self.replace(from, to, &[(first, last)]);
    }

    /// False if it is not there.
    fn remove(&mut self, low: u16) -> bool {
        let to = self.marks_to(low);
        let Some(mark) = to.checked_sub(1).map(|at| self.marks[at]) else { return false };
        let begins = mark & BEGINS_RUN != 0;
        if mark & LOW != low && !begins {
            return false;
        }
        let (from, first) = if begins { (to - 1, mark & LOW) } else { self.begin_before(to) };
        let to = if begins { to + 1 } else { to };
        let last = self.marks[to - 1] & LOW;
        let (before, behind) = ((first, low.wrapping_sub(1)), (low + 1, last));
        match (first < low, low < last) {
            (true, true) => self.replace(from, to, &[before, behind]),
            (true, false) => self.replace(from, to, &[before]),
            (false, true) => self.replace(from, to, &[behind]),
            (false, false) => self.replace(from, to, &[]),
        }
        true
    }

    /// Puts runs where other marks stood.
    fn replace(&mut self, from: usize, to: usize, runs: &[(u16, u16)]) {
        let mut marks = SmallVec::<[u16; 4]>::new();
        for (first, last) in runs {
            if first < last {
                marks.push(first | BEGINS_RUN);
            }
            marks.push(*last);
        }
        let len = self.marks.len() + marks.len() - (to - from);
        if len > self.marks.capacity() {
            // Twice as much at once would leave a third of all postings empty.
            self.marks.reserve_exact(marks.len() + self.marks.len() / 8);
        }
        self.marks.splice(from..to, marks);
        if self.marks.capacity() > 2 * len + 16 {
            self.marks.shrink_to(len + len / 8);
        }
    }
}

/// Looks for ids that ascend.
struct Search<'p> {
    /// The first is the one where the last id was looked for.
    pieces: &'p [Piece],
    /// Marks of that piece up to the last id.
    at: usize,
}

impl Search<'_> {
    fn finds(&mut self, id: u32) -> bool {
        let high = id >> PIECE_BITS;
        if self.pieces.first().is_some_and(|piece| piece.high < high) {
            self.pieces = &self.pieces[gallop(self.pieces, |piece| piece.high < high)..];
            self.at = 0;
        }
        let Some(piece) = self.pieces.first().filter(|piece| piece.high == high) else { return false };
        let low = id as u16 & LOW;
        self.at += gallop(&piece.marks[self.at..], |mark| mark & LOW <= low);
        let last = self.at.checked_sub(1).map(|at| piece.marks[at]);
        last.is_some_and(|mark| mark & LOW == low || mark & BEGINS_RUN != 0)
    }
}

/// How many items stand before what is looked for, found in steps that double: cheap where it is near.
pub(super) fn gallop<T>(items: &[T], is_before: impl Fn(&T) -> bool) -> usize {
    if items.first().is_none_or(|first| !is_before(first)) {
        return 0;
    }
    let mut step = 1;
    while step < items.len() && is_before(&items[step]) {
        step *= 2;
    }
    let from = step / 2;
    from + items[from..items.len().min(step + 1)].partition_point(is_before)
}
