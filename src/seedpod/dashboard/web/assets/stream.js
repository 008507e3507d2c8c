// The server's events, and again by itself after the server was away.

const SOONEST = 500; // milliseconds between two tries, twice as long after each one in vain
const LATEST = 5000;

export function listen(onMessage, onAway) {
  const token = new URLSearchParams(location.search).get("token") ?? "";
  let pause = SOONEST;

  function retry() {
    onAway();
    setTimeout(connect, pause);
    pause = Math.min(2 * pause, LATEST);
  }

  async function connect() {
    if (!(await knows(token))) {
      retry();
      return;
    }
    const source = new EventSource(`events?token=${encodeURIComponent(token)}`);
    source.onmessage = (event) => {
      pause = SOONEST;
      onMessage(JSON.parse(event.data));
    };
    source.onerror = () => {
      source.close(); // its own retries end for good at the first answer that is no stream
      retry();
    };
  }

  connect();
}

// Whether the server knows the token: while the search is away, somebody else may listen at its port, and is not told.
async function knows(token) {
  if (!crypto.subtle) return true; // not reached over loopback, so the page itself was told in clear
  try {
    const bytes = (text) => new TextEncoder().encode(text);
    const nonce = crypto.randomUUID();
    const answer = await fetch(`proof?nonce=${nonce}`, { cache: "no-store" });
    const proof = Uint8Array.from((await answer.text()).match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
    const key = await crypto.subtle.importKey("raw", bytes(token), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    return await crypto.subtle.verify("HMAC", key, proof, bytes(nonce));
  } catch {
    return false;
  }
}
