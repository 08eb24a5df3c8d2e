// <script src="https://…/web/widget.js" async></script> puts a button on a docs page that opens Shardwise in a frame.
(() => {
  const home = new URL(document.currentScript.src).origin;
  const host = document.createElement("div");
  const root = host.attachShadow({ mode: "closed" });
  const sheet = new CSSStyleSheet(); // constructed, so that a strict style-src of the host page allows it
  sheet.replaceSync(`
    :host { position: fixed; right: 1rem; bottom: 1rem; z-index: 2147483000; font: 16px system-ui, sans-serif; }
    button { font: inherit; padding: .6rem 1rem; border: 0; border-radius: 999px; background: #0b57d0; color: #fff; cursor: pointer; }
    iframe { display: block; width: min(30rem, calc(100vw - 2rem)); height: min(42rem, calc(100vh - 6rem)); margin-bottom: .6rem;
      border: 1px solid #8888; border-radius: 12px; background: Canvas; }
    iframe[hidden] { display: none; }`);
  root.adoptedStyleSheets = [sheet];
  const frame = document.createElement("iframe");
  frame.title = "Shardwise";
  frame.hidden = true;
  const opener = document.createElement("button");
  opener.type = "button";
  opener.textContent = document.documentElement.lang.startsWith("zh") ? "问 Shardwise" : "Ask Shardwise";
  opener.setAttribute("aria-expanded", "false");
  opener.addEventListener("click", () => {
    if (!frame.src) frame.src = `${home}/?embed`;
    frame.hidden = !frame.hidden;
    opener.setAttribute("aria-expanded", String(!frame.hidden));
  });
  root.append(frame, opener);
  document.body.append(host);
})();
