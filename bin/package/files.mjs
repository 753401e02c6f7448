// Folders that become packages: every file has a mode of its own choosing, and nothing of the machine that built it.

import {
  chmodSync,
  copyFileSync,
  existsSync,
  lutimesSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';

export const PLAIN = 0o644;
export const PROGRAM = 0o755;

/** A folder that is being filled. */
export class Stage {
  constructor(folder) {
    this.folder = folder;
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true, mode: PROGRAM });
  }

  path(name) {
    return join(this.folder, name);
  }

  write(name, content, mode = PLAIN) {
    const path = this.#room(name);
    writeFileSync(path, content);
    chmodSync(path, mode);
  }

  copy(source, name, mode = PLAIN) {
    const path = this.#room(name);
    copyFileSync(source, path);
    chmodSync(path, mode);
  }

  /** A text file with its @WORDS@ filled in. */
  fill(source, name, words, mode = PLAIN) {
    this.write(name, filled(source, words), mode);
  }

  /** As Debian wants what people read: compressed without name and time. */
  compress(name, content) {
    this.write(name, gzipSync(content, { level: 9 }));
  }

  link(target, name) {
    symlinkSync(target, this.#room(name));
  }

  /** All files of a folder that `isWanted` takes, by their path in it. */
  copyFolder(source, name, isWanted = () => true) {
    for (const file of filesOf(source)) {
      if (isWanted(file)) this.copy(join(source, file), join(name, file));
    }
  }

  /** Paths of all files and links, sorted. */
  files() {
    return filesOf(this.folder);
  }

  /** Gives everything the same time, folders after what is in them. */
  setTimes(seconds) {
    for (const path of pathsBelow(this.folder)) lutimesSync(path, seconds, seconds);
    lutimesSync(this.folder, seconds, seconds);
  }

  #room(name) {
    const path = this.path(name);
    if (existsSync(path)) throw new Error(`${name} is in the package twice`);
    for (const folder of missingFolders(dirname(path))) {
      mkdirSync(folder);
      chmodSync(folder, PROGRAM); // whatever the umask is
    }
    return path;
  }
}

function missingFolders(folder) {
  return existsSync(folder) ? [] : [...missingFolders(dirname(folder)), folder];
}

/** Deepest first. */
function pathsBelow(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? [...pathsBelow(path), path] : [path];
  });
}

/** Relative paths of what is no folder, sorted. */
export function filesOf(folder) {
  const walk = (at) =>
    readdirSync(at, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? walk(join(at, entry.name)) : [relative(folder, join(at, entry.name))],
    );
  return walk(folder).sort();
}

/** The text of a file with each @NAME@ replaced. @throws when one has no value */
export function filled(source, words) {
  return readFileSync(source, 'utf8').replace(/@([A-Z]+)@/g, (mark, word) => {
    if (words[word] === undefined) throw new Error(`${source}: nothing is given for ${mark}`);
    return words[word];
  });
}
