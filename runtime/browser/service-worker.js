// Keeps the page's files, so that it works without a connection. The server comes first, so an update is seen at once.

const CACHE = `gpcnn:${self.registration.scope}`;

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

async function keep() {
  const site = await (await fetch("site.json")).json();
  const cache = await caches.open(CACHE);
  // The page has just fetched most of them: the browser's own cache saves the second transfer.
  const files = Object.keys(site.files).map((name) => new Request(name, { cache: "force-cache" }));
  await cache.addAll(["./", "site.json", ...files]);
  await self.skipWaiting();
}

self.addEventListener("fetch", (event) => {
  const { request } = event, url = new URL(request.url);
  if (request.method === "GET" && url.href.startsWith(self.registration.scope)) event.respondWith(answer(request));
});

async function answer(request) {
  const cache = await caches.open(CACHE), options = { ignoreSearch: true };
  try {
    const response = await fetch(request);
    if (response.ok && (await cache.match(request, options))) await cache.put(new URL(request.url).origin + new URL(request.url).pathname, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request, options);
    if (kept) return kept;
    throw error;
  }
}
