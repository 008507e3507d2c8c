// Numbers as a person reads them; the same words as on the terminal.

export const NONE = "–";

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (Math.round(seconds) < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  const two = (number) => String(number).padStart(2, "0");
  if (minutes < 60) return `${minutes} min ${two(whole % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

export const value = (number) => (number === null || number === undefined ? NONE : number.toFixed(4));

export const whole = (number) => number.toLocaleString("en-US");

export const dollars = (usd) => (usd === 0 ? "0" : usd.toFixed(usd < 1 ? 4 : 2));

export function short(parameter) {
  if (typeof parameter !== "number" || Number.isInteger(parameter)) return String(parameter);
  const size = Math.abs(parameter);
  return size < 0.01 || size >= 1e5 ? parameter.toExponential(1) : String(Number(parameter.toPrecision(3)));
}

export const plural = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;
