// A simulator does not outlive who started it: with PODWEAVE_LIFELINE set, standard input is a pipe from there, and when its other
// end is closed, by whatever end of that process, there is nobody left to simulate for.
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <unistd.h>

namespace {
void watch() {
    char byte;
    ssize_t got;
    do got = read(STDIN_FILENO, &byte, 1);
    while (got > 0 || (got < 0 && errno == EINTR));
    _exit(1);
}

const bool watched = [] {
    if (!std::getenv("PODWEAVE_LIFELINE")) return false;
    // Signals are for the threads that handle them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread(watch).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return true;
}();
}  // namespace
