// The files and folders that the user has dropped or picked, with everything below the folders.

/**
 * The content of a drop: `files` as `{ file, path }`, and `folders` as paths, all relative to the target of
 * the upload. `told` is called with the number of files found so far.
 */
export async function dropped(transfer, told, signal) {
  const found = { files: [], folders: [] };
  // All entries must be read before the event ends: after that the transfer is empty.
  const items = Array.from(transfer.items).filter((item) => item.kind === 'file');
  const entries = items.map((item) => item.webkitGetAsEntry() ?? item.getAsFile());
  for (const entry of entries) {
    if (entry instanceof File) found.files.push({ file: entry, path: entry.name });
    else if (entry !== null) await walk(entry, found, told, signal);
  }
  told(found.files.length);
  return found;
}

/** The content of a file input, in the form of `dropped`. */
export function picked(input) {
  const files = Array.from(input.files, (file) => ({
    file, path: file.webkitRelativePath || file.name,
  }));
  const folders = new Set();
  for (const { path } of files) {
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      folders.add(path.slice(0, end));
    }
  }
  return { files, folders: [...folders] };
}

/** Adds everything below an entry. Iterative, because a deep folder could exhaust the stack. */
async function walk(root, found, told, signal) {
  const waiting = [root];
  for (let entry = waiting.pop(); entry; entry = waiting.pop()) {
    signal.throwIfAborted();
    const path = entry.fullPath.replace(/^\//, '');
    if (entry.isFile) {
      found.files.push({ file: await fileOf(entry), path });
      continue;
    }
    found.folders.push(path);
    for (const child of await childrenOf(entry)) waiting.push(child);
    told(found.files.length);
  }
}

const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

/** The children of a folder. The reader returns them in batches; an empty batch is the end. */
async function childrenOf(entry) {
  const reader = entry.createReader();
  const children = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return children;
    children.push(...some);
  }
}
