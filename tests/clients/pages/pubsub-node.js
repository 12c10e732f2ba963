// usage: node pubsub-node.js URL CHANNEL. Lines on stdin are frames to send; each text that comes is a line of JSON on stdout.
import { createInterface } from 'node:readline'
import WebSocket from 'ws'
import { member } from './pubsub.js'

const [url, channel] = process.argv.slice(2)
const socket = member(url, channel, text => console.log(JSON.stringify(text)), { WebSocket })

createInterface({ input: process.stdin })
  .on('line', frame => socket.send(frame))
  .on('close', () => socket.close())
