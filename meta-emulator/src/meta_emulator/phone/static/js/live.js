// The stream of events; after a break everything is loaded afresh.

export function watch({ onEvent, onReconnect }) {
  const source = new EventSource("/_emulator/events");
  let isFirst = true;
  source.addEventListener("open", () => {
    if (!isFirst) onReconnect();
    isFirst = false;
  });
  source.addEventListener("message", ({ data }) => onEvent(JSON.parse(data)));
}

/** Run `act` once, a moment after the last of many calls. */
export function soon(act, milliseconds = 120) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, milliseconds);
  };
}
