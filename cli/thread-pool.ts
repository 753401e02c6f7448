// The first import of main.ts. A receiver flushes three files at a time while it writes and reads; the
// four threads that Node starts for such calls are then all busy flushing. Set before the first of
// them is started, which happens with the first call and not before.

const THREADS = '8';

process.env['UV_THREADPOOL_SIZE'] ??= THREADS;
