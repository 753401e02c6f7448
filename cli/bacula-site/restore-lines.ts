// What an operator types into the console for a restore. Pure.

import path from 'node:path';
import { SITE_NAMES } from './config.js';

export interface RestoreWish {
  /** Which point: the newest, the newest before a moment (`2026-11-26 19:00:00`), or these jobs. */
  readonly of: 'current' | { readonly before: string } | { readonly jobIds: readonly number[] };
  /** Name of the restore job. Default: the site's own. */
  readonly job?: string;
  readonly fileSet?: string;
  /** Absolute path. Default: the folder `restored` of the site. */
  readonly where?: string;
  /** In place of `where`: `!from!to!`. */
  readonly regexWhere?: string;
  /** Whole names, or all that the job has. */
  readonly files?: readonly string[];
  /** Answers to what the plugin lets an operator change. */
  readonly pluginOptions?: Readonly<Record<string, string>>;
  readonly replace?: 'always' | 'never' | 'ifnewer' | 'ifolder';
}

/** What an operator types for a restore. */
export function restoreLines(folder: string, wish: RestoreWish): string[] {
  const { of, job = 'Restore', fileSet, files, replace, pluginOptions, regexWhere } = wish;
  const where = `where="${wish.where ?? path.join(folder, 'restored')}"`;
  const place = regexWhere === undefined ? where : `regexwhere="${regexWhere}"`;
  const words = [
    ...['restore', `client=${SITE_NAMES.client}`, `restorejob=${job}`, place],
    ...pointWords(of),
    ...(fileSet === undefined ? [] : [`fileset="${fileSet}"`]),
    ...(replace === undefined ? [] : [`replace=${replace}`]),
  ];
  if (files === undefined && pluginOptions === undefined) {
    return [[...words, 'all', 'done', 'yes'].join(' ')];
  }
  const marks = files === undefined ? ['mark *'] : files.flatMap(markLines);
  return [words.join(' '), ...marks, 'done', ...optionLines(pluginOptions), 'yes'];
}

/** `select` is left out for named jobs: it would take the newest ones in their place. */
function pointWords(of: RestoreWish['of']): string[] {
  if (of === 'current') return ['current', 'select'];
  return 'before' in of ? [`before="${of.before}"`, 'select'] : [`jobid=${of.jobIds.join(',')}`];
}

/** In the tree of files only names in the folder that one stands in can be marked. */
function markLines(file: string): string[] {
  const end = file.lastIndexOf('/');
  return [`cd "${file.slice(0, end + 1)}"`, `mark "${file.slice(end + 1)}"`];
}

/** The menu `mod`, `Plugin Options`; entries are chosen by their number, told by the console. */
function optionLines(options: RestoreWish['pluginOptions']): string[] {
  if (options === undefined) return [];
  return ['mod', '13', ...Object.entries(options).flatMap(([key, value]) => [key, value]), 'yes'];
}
