package loss

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gorilla/websocket"

	"windlass.dev/windlass/test/loss/wire"
)

// talk is a connection on which a line, or a message, answers another.
type talk interface {
	send(line string) error
	receive() (string, error) // io.EOF when the server has closed in order
	// bye closes in order after the last answer and waits for the server to.
	bye()
	close()
}

var errPartial = errors.New("a part of an answer")

// lineAsker asks over a connection that it reads all the time, as programs that
// keep one do: so it notices an end that comes while it is idle.
type lineAsker struct {
	dial    func(ctx context.Context, address string) (talk, error)
	address string
	keep    bool

	talk     talk
	answers  chan string
	ended    chan error
	answered bool
}

// ask implements asker.
func (a *lineAsker) ask(ctx context.Context) error {
	select {
	case <-a.ended: // while idle: nothing was lost
		a.close()
	default:
	}
	if a.talk == nil {
		if err := a.connect(ctx); err != nil {
			return err
		}
	}
	line := wire.Piece
	if !a.keep {
		line = wire.Last
	}
	err := a.exchange(ctx, line)
	switch {
	case err == nil:
		a.answered = true
		if !a.keep {
			a.talk.bye()
			a.close()
		}
	case a.answered && !errors.Is(err, errPartial):
		a.close()
		return crossed{err}
	default:
		a.close()
	}
	return err
}

func (a *lineAsker) connect(ctx context.Context) error {
	talk, err := a.dial(ctx, a.address)
	if err != nil {
		return err
	}
	answers, ended := make(chan string, 1), make(chan error, 1)
	a.talk, a.answers, a.ended, a.answered = talk, answers, ended, false
	go func() {
		for {
			answer, err := talk.receive()
			if err != nil {
				ended <- err
				return
			}
			answers <- answer
		}
	}()
	return nil
}

func (a *lineAsker) exchange(ctx context.Context, line string) error {
	if err := a.talk.send(line); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	select {
	case <-a.answers:
		return nil
	case err := <-a.ended:
		select {
		case <-a.answers: // both had come
			return nil
		default:
			return fmt.Errorf("instead of an answer: %w", err)
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close implements asker.
func (a *lineAsker) close() {
	if a.talk != nil {
		a.talk.close()
		a.talk, a.ended = nil, nil
	}
}

type tcpTalk struct {
	net.Conn
	lines *bufio.Reader
}

func dialTCP(ctx context.Context, address string) (talk, error) {
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return tcpTalk{connection, bufio.NewReader(connection)}, nil
}

func (t tcpTalk) send(line string) error {
	_, err := t.Write([]byte(line + "\n"))
	return err
}

// receive returns whole lines only.
func (t tcpTalk) receive() (string, error) {
	line, err := t.lines.ReadString('\n')
	if err != nil && line != "" {
		err = errPartial
	}
	return line, err
}

func (t tcpTalk) bye()   {}
func (t tcpTalk) close() { _ = t.Conn.Close() }

type webSocketTalk struct{ *websocket.Conn }

func dialWebSocket(ctx context.Context, address string) (talk, error) {
	socket, response, err := websocket.DefaultDialer.DialContext(ctx, "ws://"+address+"/ws", nil)
	if err != nil {
		return nil, err
	}
	_ = response.Body.Close()
	return webSocketTalk{socket}, nil
}

func (w webSocketTalk) send(line string) error {
	return w.WriteMessage(websocket.TextMessage, []byte(line))
}

func (w webSocketTalk) receive() (string, error) {
	_, message, err := w.ReadMessage()
	if end := (*websocket.CloseError)(nil); errors.As(err, &end) && end.Code == websocket.CloseGoingAway {
		err = io.EOF
	}
	return string(message), err
}

func (w webSocketTalk) bye() {
	_ = w.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
}

func (w webSocketTalk) close() { _ = w.Conn.Close() }
