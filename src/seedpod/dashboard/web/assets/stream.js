// The server's events, and again by itself after the server was away.

const SOONEST = 500; // milliseconds between two tries, twice as long after each one in vain
const LATEST = 5000;

export function listen(onMessage, onAway) {
  const token = new URLSearchParams(location.search).get("token") ?? "";
  let pause = SOONEST;

  function connect() {
    const source = new EventSource(`events?token=${encodeURIComponent(token)}`);
    source.onmessage = (event) => {
      pause = SOONEST;
      onMessage(JSON.parse(event.data));
    };
    source.onerror = () => {
      source.close(); // its own retries end for good at the first answer that is no stream
      onAway();
      setTimeout(connect, pause);
      pause = Math.min(2 * pause, LATEST);
    };
  }

  connect();
}
