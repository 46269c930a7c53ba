// Browsers refuse workers to pages that are read from the disk, and the site's search needs one: its
// script runs in a hidden frame there. The theme looks for the name IFrameWorker.
if (location.protocol === "file:") {
  const run = (frame, url) =>
    new Promise((resolve, reject) => {
      const script = frame.contentDocument.createElement("script");
      Object.assign(script, { src: url, onload: resolve, onerror: reject });
      frame.contentDocument.body.append(script);
    });

  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.ready = new Promise((resolve) => frame.addEventListener("load", resolve, { once: true }))
        .then(() => {
          const inside = frame.contentWindow;
          inside.postMessage = (data) =>
            this.dispatchEvent(new MessageEvent("message", { data }));
          inside.importScripts = (...urls) =>
            urls.reduce((before, next) => before.then(() => run(frame, next)), Promise.resolve());
          return run(frame, url).then(() => inside);
        });
      document.body.append(frame);
    }

    postMessage(data) {
      this.ready.then((inside) =>
        inside.dispatchEvent(new inside.MessageEvent("message", { data })),
      );
    }
  };
}
