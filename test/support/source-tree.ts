// The checkout as data for test/tidy: its text files, and the import graph of its TypeScript.

import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import ts from 'typescript';
import { checkoutFolder } from './checkout.js';

const NOT_OURS = new Set(['node_modules', '.git', '.cache', '.demo']);

function walk(folder: string, found: string[]): void {
  for (const entry of readdirSync(join(checkoutFolder, folder), { withFileTypes: true })) {
    const path = posix.join(folder, entry.name);
    if (entry.isDirectory()) {
      if (!NOT_OURS.has(entry.name) && !/^dist(-|$)/.test(entry.name)) walk(path, found);
    } else {
      found.push(path);
    }
  }
}

/** Paths of all files that are ours, relative to the checkout, with forward slashes, sorted. */
export function allFiles(): readonly string[] {
  const found: string[] = [];
  walk('.', found);
  return found.sort();
}

export function readText(path: string): string {
  return readFileSync(join(checkoutFolder, path), 'utf8');
}

/** Source text without comments and without the insides of string literals. */
export function codeOnly(text: string): string {
  const scanner = ts.createScanner(
    ts.ScriptTarget.ES2023,
    false,
    ts.LanguageVariant.Standard,
    text,
  );
  const parts: string[] = [];
  for (let token = scanner.scan(); token !== ts.SyntaxKind.EndOfFileToken; token = scanner.scan()) {
    const isText =
      token === ts.SyntaxKind.StringLiteral ||
      token === ts.SyntaxKind.SingleLineCommentTrivia ||
      token === ts.SyntaxKind.MultiLineCommentTrivia;
    parts.push(isText ? ' ' : scanner.getTokenText());
  }
  return parts.join('');
}

export interface SourceFile {
  /** Relative to the checkout. */
  readonly path: string;
  readonly folder: string;
  readonly text: string;
  /** Imported files of ours, relative to the checkout. */
  readonly imports: readonly string[];
  /** Imported packages and node: modules, without sub-paths. */
  readonly packages: readonly string[];
}

function packageName(specifier: string): string {
  if (specifier.startsWith('node:')) return specifier;
  const parts = specifier.split('/');
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? specifier);
}

/** Every TypeScript file of ours with what it imports. */
export function sourceFiles(files: readonly string[]): readonly SourceFile[] {
  return files
    .filter((path) => path.endsWith('.ts'))
    .map((path) => {
      const text = readText(path);
      const names = ts.preProcessFile(text).importedFiles.map(({ fileName }) => fileName);
      return {
        path,
        folder: dirname(path),
        text,
        imports: names
          .filter((name) => name.startsWith('.'))
          .map((name) => posix.join(dirname(path), name).replace(/\.js$/, '.ts')),
        packages: [...new Set(names.filter((name) => !name.startsWith('.')).map(packageName))],
      };
    });
}

/** One import cycle as the list of its files, or undefined when there is none. */
export function findCycle(sources: readonly SourceFile[]): readonly string[] | undefined {
  const importsOf = new Map(sources.map(({ path, imports }) => [path, imports]));
  const finished = new Set<string>();
  const trail: string[] = [];
  const visit = (path: string): readonly string[] | undefined => {
    if (finished.has(path)) return undefined;
    const seenAt = trail.indexOf(path);
    if (seenAt >= 0) return [...trail.slice(seenAt), path];
    trail.push(path);
    for (const next of importsOf.get(path) ?? []) {
      const cycle = visit(next);
      if (cycle !== undefined) return cycle;
    }
    trail.pop();
    finished.add(path);
    return undefined;
  };
  for (const { path } of sources) {
    const cycle = visit(path);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

/** All files that can be reached from `roots` by imports. */
export function reachable(sources: readonly SourceFile[], roots: readonly string[]): Set<string> {
  const importsOf = new Map(sources.map(({ path, imports }) => [path, imports]));
  const found = new Set<string>();
  const waiting = [...roots];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (found.has(path)) continue;
    found.add(path);
    waiting.push(...(importsOf.get(path) ?? []));
  }
  return found;
}

/** True for a file that does nothing but export from others. */
export function onlyReExports(source: SourceFile): boolean {
  const parsed = ts.createSourceFile(source.path, source.text, ts.ScriptTarget.ES2023);
  return parsed.statements.every(
    (statement) => ts.isExportDeclaration(statement) && statement.moduleSpecifier !== undefined,
  );
}
