import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeFileSystem, type FileSystem } from '../../shared/files/index.js';
import { CountingFileSystem } from '../support/counting-file.js';
import { CrashFileSystem } from '../support/crash-file.js';
import { FaultFileSystem } from '../support/fault-file.js';
import { MemoryFileSystem } from '../support/memory-file.js';
import { describeFileSystem, type FileSystemUnderTest } from './file-system.js';

async function inTemporaryFolder(fileSystem: FileSystem): Promise<FileSystemUnderTest> {
  const folder = await mkdtemp(join(tmpdir(), 'hvdr-files-'));
  return { fileSystem, folder, cleanUp: () => rm(folder, { recursive: true }) };
}

async function inMemory(fileSystem: FileSystem): Promise<FileSystemUnderTest> {
  await fileSystem.makeFolder('/work');
  return { fileSystem, folder: '/work', cleanUp: () => Promise.resolve() };
}

describeFileSystem('node:fs', () => inTemporaryFolder(nodeFileSystem));
describeFileSystem('node:fs behind a fault double without faults', () =>
  inTemporaryFolder(new FaultFileSystem(nodeFileSystem)),
);
describeFileSystem('node:fs behind a counter', () =>
  inTemporaryFolder(new CountingFileSystem(nodeFileSystem)),
);
describeFileSystem('memory', () => inMemory(new MemoryFileSystem()));
describeFileSystem('crash double without a crash', () => inMemory(new CrashFileSystem()));
