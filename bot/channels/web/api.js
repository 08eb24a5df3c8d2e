// Calls to our own server; a token, where it asks for one, lives in this tab's session alone.
const KEPT = "shardwise-token";

async function token() {
  const dialog = document.querySelector("#token");
  const field = dialog.querySelector("input");
  field.value = "";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  if (!field.value) return false;
  sessionStorage.setItem(KEPT, field.value);
  return true;
}

export async function call(path, body) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  const kept = sessionStorage.getItem(KEPT);
  if (kept) headers.Authorization = `Bearer ${kept}`;
  const response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  if (response.status === 401 && (await token())) return call(path, body);
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Error(told.error?.message ?? `${response.status}`);
  }
  return response;
}

export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith(":")) continue; // a sign of life
      const [name, data] = block.split("\n");
      yield [name.slice("event: ".length), JSON.parse(data.slice("data: ".length))];
    }
  }
}
