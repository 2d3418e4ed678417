package main

import "errors"

func (a *assembly) addNATS(string, inputConfig) error { return errors.New("nats") }
