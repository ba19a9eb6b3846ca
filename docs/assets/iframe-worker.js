// Search runs in a worker, which browsers refuse to pages that are opened from disk. There it runs in a hidden frame instead.
// The name of this file replaces the script that the generator would load from another server.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.started = new Promise((resolve) => {
        frame.onload = () => {
          const inside = frame.contentWindow;
          inside.postMessage = (data) => deliver(data, this);
          const script = inside.document.createElement("script");
          script.src = new URL(url, location.href).href;
          script.onload = () => resolve(inside);
          inside.document.head.append(script);
        };
      });
      document.documentElement.append(frame);
    }

    postMessage(data) {
      this.started.then((inside) => deliver(data, inside));
    }
  };

// As between threads: a copy, and later.
function deliver(data, target) {
  const copy = structuredClone(data);
  setTimeout(() => {
    const event = new MessageEvent("message", { data: copy });
    target.dispatchEvent(event);
    if (target instanceof window.Worker) target.onmessage?.(event);
  });
}
