/** A web server and curl: what most weights are fetched with, checked by openssl as a careful person would. */

import { writeFile, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { runCommand, watchUse } from '../use.ts'
import { answering, freePort, onPath, type Rival, startServer, type TestBed } from './rival.ts'

interface Nginx extends AsyncDisposable {
  readonly port: number
  readonly pid: number
}

/** Serves the folder over plain HTTP with sendfile. */
export async function startNginx(scratch: string, root: string): Promise<Nginx> {
  const port = await freePort()
  const config = join(scratch, `nginx-${port}.conf`)
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map(name => `${name}_temp_path ${join(scratch, `nginx-${name}`)};`)
    .join(' ')
  await writeFile(
    config,
    `${process.getuid?.() === 0 ? 'user root; ' : ''}daemon off; master_process off; error_log stderr; pid ${join(scratch, `nginx-${port}.pid`)};
     events {} http { access_log off; sendfile on; ${temporary}
       server { listen 127.0.0.1:${port}; root ${root}; } }`,
  )
  const server = startServer('nginx', ['-c', config])
  await answering(port)
  return { port, pid: server.pid, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() }
}

function nginxRival(name: string, commandFor: (url: string, target: string) => string): Rival {
  return {
    name,
    missing: () => {
      const absent = ['nginx', 'curl', 'openssl'].filter(program => !onPath(program))
      return Promise.resolve(absent.length === 0 ? undefined : `no ${absent.join(', ')} here`)
    },
    async prepare({ folder, modelFolder, file }: TestBed) {
      const nginx = await startNginx(folder, modelFolder)
      const target = join(folder, 'curl.bin')
      const command = commandFor(`http://127.0.0.1:${nginx.port}/${basename(file)}`, target)
      return {
        async run() {
          const server = watchUse([nginx.pid])
          const leecher = await runCommand('sh', ['-c', command])
          const seeder = server.stop()
          await rm(target, { force: true })
          return { seconds: leecher.seconds, leecher, seeder }
        },
        [Symbol.asyncDispose]: () => nginx[Symbol.asyncDispose](),
      }
    },
  }
}

export const curlToFile = nginxRival(
  'nginx, curl -o file, openssl dgst',
  (url, target) => `curl -sSf -o ${target} ${url} && openssl dgst -sha256 ${target}`,
)

/** The same, with the file safely on disk, as every pull of ours is. */
export const curlToDisk = nginxRival(
  'nginx, curl -o file, sync, openssl dgst',
  (url, target) =>
    `curl -sSf -o ${target} ${url} && sync ${target} && openssl dgst -sha256 ${target}`,
)

export const curlToPipe = nginxRival(
  'nginx, curl | openssl dgst, nothing written',
  url => `curl -sSf ${url} | openssl dgst -sha256`,
)
