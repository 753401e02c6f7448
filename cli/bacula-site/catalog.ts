// Bacula's catalog of a site, read as it is by the sqlite3 program; and made by Debian's own script.

import { statSync } from 'node:fs';
import { DrError } from '../../shared/errors.js';
import { outputOf } from './programs.js';

/** The tables, as the package of the Director brings them. */
const TABLES = '/usr/share/dbconfig-common/data/bacula-director-sqlite3/install/sqlite3';

export interface JobRow {
  readonly jobId: number;
  /** Unique name, with date and number. */
  readonly job: string;
  readonly name: string;
  /** B backup, R restore, D admin, V verify. */
  readonly type: string;
  readonly level: string;
  /** T ended well, W ended with warnings, E and f failed, A cancelled, R runs. */
  readonly status: string;
  readonly errors: number;
  readonly files: number;
  readonly bytes: number;
  /** Id of the job whose end this one counts from; 0 for a Full. */
  readonly priorJobId: number;
}

export interface FileRow {
  readonly jobId: number;
  /** Path and name as one, as the plugin named it. */
  readonly name: string;
  /** 0 for a file that was deleted. */
  readonly fileIndex: number;
}

type Row = Readonly<Record<string, string | number | null>>;

export class BaculaCatalog {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  /** @throws DrError E_TOOL_MISSING without Debian's tables */
  async create(): Promise<void> {
    if (statSync(TABLES, { throwIfNoEntry: false }) === undefined) {
      throw new DrError('E_TOOL_MISSING', `there is no ${TABLES}, the tables of a new catalog`, {
        hint: 'Debian: apt-get install bacula-director-sqlite3',
      });
    }
    await outputOf('sqlite3', ['-batch', this.#file, `.read ${TABLES}`]);
  }

  /** Another value after each change; for whoever waits for one. */
  get stamp(): string {
    const status = statSync(this.#file, { throwIfNoEntry: false, bigint: true });
    return `${status?.mtimeNs ?? ''} ${status?.size ?? ''}`;
  }

  /** The rows of a query; the Director may be writing meanwhile. */
  async query(sql: string): Promise<readonly Row[]> {
    const args = ['-batch', '-json', '-cmd', '.timeout 20000', this.#file, sql];
    const text = await outputOf('sqlite3', args);
    return text.trim() === '' ? [] : (JSON.parse(text) as Row[]);
  }

  /** All jobs, oldest first. */
  async jobs(): Promise<JobRow[]> {
    const rows = await this.query(
      `SELECT JobId, Job, Name, Type, Level, JobStatus, JobErrors, JobFiles, JobBytes, PriorJobId
       FROM Job ORDER BY JobId`,
    );
    return rows.map((row) => ({
      jobId: Number(row['JobId']),
      job: String(row['Job']),
      name: String(row['Name']),
      type: String(row['Type']),
      level: String(row['Level']),
      status: String(row['JobStatus']),
      errors: Number(row['JobErrors']),
      files: Number(row['JobFiles']),
      bytes: Number(row['JobBytes']),
      priorJobId: Number(row['PriorJobId'] ?? 0),
    }));
  }

  /** The files of a job in the order in which they came. */
  async files(jobId: number): Promise<FileRow[]> {
    const rows = await this.query(
      `SELECT File.JobId, File.FileIndex, Path.Path || Filename.Name AS Name
       FROM File JOIN Path USING (PathId) JOIN Filename USING (FilenameId)
       WHERE File.JobId = ${jobId} ORDER BY File.FileIndex, File.FileId`,
    );
    return rows.map((row) => ({
      jobId: Number(row['JobId']),
      name: String(row['Name']),
      fileIndex: Number(row['FileIndex']),
    }));
  }

  /** All that the job said. */
  async log(jobId: number): Promise<string> {
    const rows = await this.query(`SELECT LogText FROM Log WHERE JobId = ${jobId} ORDER BY LogId`);
    return rows.map((row) => String(row['LogText'])).join('');
  }
}
