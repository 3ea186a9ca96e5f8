// The web server of the player test: one folder on the loopback address, with the types,
// the byte ranges and the CORS headers that a host of streams gives. It may not read
// outside that folder, and remembers what it had to refuse.

import { createReadStream } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';

const TYPES = {
  '.m3u8': 'application/vnd.apple.mpegurl', // RFC 8216 4
  '.mpd': 'application/dash+xml',
  '.mp4': 'video/mp4',
  '.m4s': 'video/iso.segment',
  '.m4a': 'audio/mp4',
  '.vtt': 'text/vtt',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
};

/// Serves `folder` under /stream/ and each of `pages` (URL path -> file) as it is.
/// Resolves to { origin, requests: count of stream requests, failed: [{ status, path }], close }.
export async function serve(folder, pages) {
  const root = await realpath(folder);
  const log = { requests: 0, failed: [] };

  const server = createServer((request, response) => {
    const url = new URL(request.url, 'http://127.0.0.1');
    const refuse = (status, headers = {}) => {
      log.failed.push({ status, path: url.pathname });
      response.writeHead(status, headers).end();
    };
    response.setHeader('Access-Control-Allow-Origin', '*');
    response.setHeader('Access-Control-Expose-Headers', 'Content-Length, Content-Range');
    response.setHeader('Cache-Control', 'no-store');
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return refuse(405, { Allow: 'GET, HEAD' });
    }
    if (url.pathname.startsWith('/stream/')) log.requests += 1;
    find(root, pages, url.pathname).then(
      (file) => (file ? send(request, response, file, refuse) : refuse(404)),
      () => refuse(500),
    );
  });

  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  log.origin = `http://127.0.0.1:${server.address().port}`;
  log.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return log;
}

/// The file behind a URL path with its size, or null where there is none to be had.
async function find(root, pages, urlPath) {
  let file = pages[urlPath];
  if (!file && urlPath.startsWith('/stream/')) {
    try {
      file = path.join(root, decodeURIComponent(urlPath.slice('/stream/'.length)));
    } catch {
      return null;
    }
    if (!file.startsWith(root + path.sep)) return null;
  }
  if (!file) return null;
  try {
    const found = await stat(file);
    return found.isFile() ? { path: file, size: found.size } : null;
  } catch {
    return null;
  }
}

/// Sends the file, or the one byte range that was asked for (RFC 9110 14).
function send(request, response, file, refuse) {
  const headers = {
    'Content-Type': TYPES[path.extname(file.path)] ?? 'application/octet-stream',
    'Accept-Ranges': 'bytes',
  };
  let [start, end, status] = [0, file.size - 1, 200];
  const range = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? '');
  if (range && (range[1] || range[2])) {
    if (range[1]) {
      start = Number(range[1]);
      end = range[2] ? Math.min(Number(range[2]), end) : end;
    } else {
      start = Math.max(0, file.size - Number(range[2]));
    }
    if (start > end) return refuse(416, { 'Content-Range': `bytes */${file.size}` });
    status = 206;
    headers['Content-Range'] = `bytes ${start}-${end}/${file.size}`;
  }
  headers['Content-Length'] = end - start + 1;
  response.writeHead(status, headers);
  if (request.method === 'HEAD' || file.size === 0) return response.end();
  const stream = createReadStream(file.path, { start, end });
  stream.on('error', () => response.destroy());
  response.on('close', () => stream.destroy());
  stream.pipe(response);
}
