// Times and ages. Milliseconds since 1970 come in, the reader's own time zone and a 24-hour clock go out.

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', hour12: false });
const clockWithSeconds = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hour12: false,
});
const day = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short' });

export const hourMinute = (ms) => clock.format(ms);
export const hourMinuteSecond = (ms) => clockWithSeconds.format(ms);

/** The clock alone on the same day, otherwise with the day before it. */
export function moment(ms, now) {
  const sameDay = new Date(ms).toDateString() === new Date(now).toDateString();
  return sameDay ? hourMinuteSecond(ms) : `${day.format(ms)} ${hourMinute(ms)}`;
}

/** A span in one or two units: 43 s, 24 min, 3 h 5 min, 2 d. */
export function span(ms) {
  const total = Math.max(0, Math.round(ms / 1000));
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min`;
  const hours = Math.floor(total / 3600);
  if (hours >= 48) return `${Math.floor(hours / 24)} d`;
  const minutes = Math.floor((total % 3600) / 60);
  return minutes === 0 ? `${hours} h` : `${hours} h ${minutes} min`;
}

/** `in 42 min` or `43 s ago`. */
export const relative = (ms, now) => (ms > now ? `in ${span(ms - now)}` : `${span(now - ms)} ago`);

/** The time zone's short name, for a head line: UTC, CET. */
export function zone() {
  const parts = new Intl.DateTimeFormat('en-GB', { timeZoneName: 'short' }).formatToParts(0);
  return parts.find((part) => part.type === 'timeZoneName')?.value ?? '';
}
